"""One answer, whatever API it goes out by: its identity, and what its chunks amount to."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from residency.engines.client import add_call

# ASCII alone: U+2028 and its like are line breaks to some readers of events.
dumps = json.JSONEncoder(separators=(",", ":")).encode


def event(value: Mapping[str, Any], name: str = "") -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {dumps(value)}\n\n".encode()


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What every part of one answer has in common; `created` in seconds since 1970."""

    id: str
    created: int
    model: str
    system_fingerprint: str

    def fields(self, kind: str) -> dict[str, Any]:
        """The head of an answer of OpenAI's chat and completions."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
        }


def identity(id: str, *, model: str, build: str) -> Identity:
    """A new answer's identity. `id` opens with its API's prefix; `build`, a digest, makes the
    fingerprint, as OpenAI's names a back end."""
    return Identity(
        id=id,
        created=int(time.time()),
        model=model,
        system_fingerprint=build[:12],
    )


@dataclass(slots=True)
class Choice:
    """One of the answers, growing with each chunk. `tool_calls` are by their index; `stop` is the
    stop sequence that ended it, where the engine says so (as `stop_reason`); it may be one of the
    chat template's."""

    content: list[str] = field(default_factory=list)
    tool_calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None
    stop: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.content)

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [call for _, call in sorted(self.tool_calls.items())]

    def add(self, part: Mapping[str, Any]) -> None:
        delta = part["delta"]
        if text := delta.get("content"):
            self.content.append(text)
        if calls := delta.get("tool_calls"):
            for call in calls:
                add_call(self.tool_calls, call)
        if part.get("logprobs"):
            self.logprobs += part["logprobs"].get("content") or ()
        if finish := part.get("finish_reason"):
            self.finish_reason = finish
            reason = part.get("stop_reason")
            self.stop = reason if isinstance(reason, str) else None


@dataclass(slots=True)
class Answer:
    """What the chunks so far amount to. `usage` is empty until the engine has counted."""

    choices: dict[int, Choice] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)

    @property
    def first(self) -> Choice:
        return self.choices.get(0) or Choice()

    def in_order(self) -> list[tuple[int, Choice]]:
        return sorted(self.choices.items()) or [(0, Choice())]

    def add(self, chunk: Mapping[str, Any]) -> None:
        for part in chunk["choices"]:
            index = part["index"]
            if index not in self.choices:
                self.choices[index] = Choice()
            self.choices[index].add(part)
        if usage := chunk.get("usage"):
            self._count(usage)

    def _count(self, usage: Mapping[str, Any]) -> None:
        """llama.cpp counts each choice by itself; they share the prompt."""
        written = self.usage.get("completion_tokens", 0) + usage.get("completion_tokens", 0)
        asked = usage.get("prompt_tokens", 0)
        self.usage = {
            **usage,
            "prompt_tokens": asked,
            "completion_tokens": written,
            "total_tokens": asked + written,
        }


def tokens(content: Iterable[Mapping[str, Any]] | None, top: int) -> list[dict[str, Any]]:
    """OpenAI's fields of the tokens in a chunk's `logprobs.content`, each with its `top` likeliest;
    llama.cpp adds ids of its own."""
    return [
        _token(one) | {"top_logprobs": [_token(t) for t in one.get("top_logprobs", ())[:top]]}
        for one in content or ()
    ]


def _token(one: Mapping[str, Any]) -> dict[str, Any]:
    return {"token": one["token"], "logprob": one["logprob"], "bytes": one.get("bytes")}
