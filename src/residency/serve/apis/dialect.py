"""What an API is to the gateway: its way in and its ways out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from residency.serve.answer import Answer, Identity, dumps, event
from residency.serve.asked import Api, Asked
from residency.serve.errors import Fault

DONE = b"data: [DONE]\n\n"
_BLANK = "\0"


class Writer(Protocol):
    """Writes one answer as server-sent events. It is made with the `Answer` that collects the
    chunks; every chunk is added there before it is written."""

    def first(self) -> bytes:
        """What opens the stream."""

    def chunk(self, chunk: Mapping[str, Any]) -> bytes:
        """The events of one chunk; empty where it makes none."""

    def last(self, facts: Mapping[str, Any]) -> bytes:
        """What ends a stream that is complete; `facts` are those of the request's `Notes`."""

    def broken(self, fault: Fault) -> bytes:
        """What ends a stream that fails."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """`prefix` opens the ids of its answers. `parse` raises `RequestError`; `whole` is the body of
    an answer that is not streamed, `error` that of a failure."""

    name: Api
    path: str
    prefix: str
    parse: Callable[[bytes], Asked]
    writer: Callable[[Asked, Identity, Answer], Writer]
    whole: Callable[[Asked, Identity, Answer, Mapping[str, Any]], dict[str, Any]]
    error: Callable[[Fault], dict[str, Any]] = Fault.body


def tail(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The `residency` object in the tail of an answer, where there is something to say."""
    return {"residency": dict(facts)} if facts else {}


def _text_alone(choices: Sequence[Mapping[str, Any]]) -> str:
    """The text of a chunk that says nothing else; empty for any other chunk."""
    part = choices[0]
    delta = part["delta"]
    more = len(choices) + len(delta) > 2 or part.get("finish_reason") or part.get("logprobs")
    return "" if more else delta.get("content") or ""


class ChunkWriter:
    """The streams of OpenAI's chat and completions: one event a chunk, then `[DONE]`.

    `form` turns a part of a chunk's `choices` into that of the API. An event with a finish reason
    is held until the next, so that the last one of all can carry the `residency` object.
    """

    def __init__(
        self,
        kind: str,
        form: Callable[[Mapping[str, Any]], dict[str, Any]],
        *,
        asked: Asked,
        who: Identity,
        answer: Answer,
    ) -> None:
        self._form = form
        self._answer = answer
        self._usage = asked.usage
        # The same for every chunk of an answer, and so written once.
        self._head = f'data: {dumps(who.fields(kind))[:-1]},"choices":['
        self._end = '],"usage":null}\n\n' if asked.usage else "]}\n\n"
        # A part with blanks for index and text, because to write all of it takes ten times as long.
        blank = form({"index": 0, "delta": {"content": _BLANK}})
        self._around = dumps({**blank, "index": _BLANK}).split(dumps(_BLANK))
        self._held = ""

    def first(self) -> bytes:
        return b""

    def chunk(self, chunk: Mapping[str, Any]) -> bytes:
        choices = chunk["choices"]
        if not choices:
            return b""
        if not self._held and (said := _text_alone(choices)):
            index = choices[0]["index"]
            before, between, after = self._around
            part = f"{before}{index}{between}{dumps(said)}{after}"
            return f"{self._head}{part}{self._end}".encode()
        parts = [self._form(part) for part in choices]
        text = self._head + dumps(parts)[1:-1]
        ready = f"{self._held}{self._end}" if self._held else ""
        self._held = text if any(part["finish_reason"] for part in parts) else ""
        return ready.encode() if self._held else f"{ready}{text}{self._end}".encode()

    def last(self, facts: Mapping[str, Any]) -> bytes:
        about = dumps(tail(facts))[1:-1]
        if self._usage:
            held = f"{self._held}{self._end}" if self._held else ""
            end = [f'{self._head}],"usage":{dumps(self._answer.usage or None)}', about]
            return f"{held}{','.join(filter(None, end))}}}\n\n".encode() + DONE
        end = [f"{self._held or self._head}]", about]
        return f"{','.join(filter(None, end))}}}\n\n".encode() + DONE

    def broken(self, fault: Fault) -> bytes:
        return event(fault.body())
