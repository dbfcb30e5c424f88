"""The engine's chunks in OpenAI's form: one answer, or server-sent events.

Identity (id, time, model, fingerprint) is the gateway's. Of a chunk only `choices` and `usage` are
taken, so what else an engine adds does not get out.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from residency.types import Release

DONE = b"data: [DONE]\n\n"


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def event(value: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return f"data: {_dumps(value)}\n\n".encode()


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What every part of one answer has in common; `created` in seconds since 1970."""

    id: str
    created: int
    model: str
    system_fingerprint: str

    def fields(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
        }


def identity(release: Release) -> Identity:
    """A new answer's identity. The fingerprint names the build, as OpenAI's names a back end."""
    return Identity(
        id=f"chatcmpl-{secrets.token_hex(12)}",
        created=int(time.time()),
        model=release.model,
        system_fingerprint=release.build.digest[:12],
    )


class EventWriter:
    """Turns the chunks of one answer into events; `usage` as `stream_options.include_usage`."""

    def __init__(self, who: Identity, *, usage: bool) -> None:
        self._usage = usage
        # The same for every chunk of an answer, and so written once.
        self._head = "data: " + _dumps(who.fields("chat.completion.chunk"))[:-1] + ',"choices":'
        self._tail = (',"usage":null}' if usage else "}") + "\n\n"

    def write(self, chunk: Mapping[str, Any]) -> bytes:
        """The event of a chunk; nothing for a usage chunk that was not asked for."""
        if chunk["choices"]:
            return f"{self._head}{_dumps(chunk['choices'])}{self._tail}".encode()
        if self._usage and chunk.get("usage"):
            return f'{self._head}[],"usage":{_dumps(chunk["usage"])}}}\n\n'.encode()
        return b""


@dataclass(slots=True)
class _Choice:
    """The one choice of a plain answer, growing with each chunk."""

    content: list[str] = field(default_factory=list)
    tool_calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    logprobs: list[Any] = field(default_factory=list)
    finish_reason: str | None = None

    def add(self, part: Mapping[str, Any]) -> None:
        delta = part["delta"]
        if delta.get("content"):
            self.content.append(delta["content"])
        for call in delta.get("tool_calls") or ():
            self._add_call(call)
        if part.get("logprobs"):
            self.logprobs += part["logprobs"].get("content") or ()
        self.finish_reason = part.get("finish_reason") or self.finish_reason

    def _add_call(self, call: Mapping[str, Any]) -> None:
        """A call comes in pieces: id and name first, then its arguments bit by bit."""
        whole = self.tool_calls.setdefault(call["index"], {"type": "function", "function": {}})
        if call.get("id"):
            whole["id"] = call["id"]
        for name, text in (call.get("function") or {}).items():
            whole["function"][name] = whole["function"].get(name, "") + text

    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.content)}
        if self.tool_calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = [call for _, call in sorted(self.tool_calls.items())]
        return message


async def assemble(chunks: AsyncIterable[Mapping[str, Any]], who: Identity) -> dict[str, Any]:
    """The plain answer that a whole stream amounts to."""
    choice, usage = _Choice(), None
    async for chunk in chunks:
        usage = chunk.get("usage") or usage
        for part in chunk["choices"]:
            choice.add(part)
    whole = {
        "index": 0,
        "message": choice.message(),
        "logprobs": {"content": choice.logprobs} if choice.logprobs else None,
        "finish_reason": choice.finish_reason,
    }
    return {**who.fields("chat.completion"), "choices": [whole], "usage": usage}
