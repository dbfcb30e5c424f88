"""What `/v1/messages` answers: one message, or the events that build it; and its failures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from residency.serve.answer import Answer, Choice, Identity, dumps, event
from residency.serve.apis.dialect import tail
from residency.serve.asked import Asked
from residency.serve.errors import Fault

_STOP_REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_ERROR_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_TEXT = -1
"""The open block is text; a call has its index."""


def error_body(fault: Fault) -> dict[str, Any]:
    """A failure as Anthropic writes it; what its form has no room for is in `residency`."""
    other = "invalid_request_error" if fault.status < 500 else "api_error"
    error = {"type": _ERROR_TYPES.get(fault.status, other), "message": fault.message}
    about = fault.body()["residency"] | {"code": fault.code}
    return {"type": "error", "error": error, "residency": about}


def whole(asked: Asked, who: Identity, answer: Answer, facts: Mapping[str, Any]) -> dict[str, Any]:
    choice = answer.first
    text = [{"type": "text", "text": choice.text}] if choice.content else []
    content = [*text, *(_tool_use(call, _input(call)) for call in choice.calls)]
    ended = {"content": content, **_end(asked, choice), "usage": _usage(answer)}
    return _message(who) | ended | tail(facts)


def _message(who: Identity) -> dict[str, Any]:
    """The message before anything of it is written."""
    return {
        "id": who.id,
        "type": "message",
        "role": "assistant",
        "model": who.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def _tool_use(call: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    name = call["function"]["name"]
    return {"type": "tool_use", "id": call["id"], "name": name, "input": given}


def _input(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call that was cut off is no object; it is kept under the name that Anthropic's guide
    "Fine-grained tool streaming" gives to such text."""
    text = call["function"]["arguments"]
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"INVALID_JSON": text}


def _end(asked: Asked, choice: Choice) -> dict[str, Any]:
    """An API elsewhere does not say that a stop sequence ended an answer: an `end_turn` here."""
    reason = _STOP_REASONS.get(choice.finish_reason or "", "end_turn")
    if reason == "end_turn" and choice.stop in asked.options.get("stop", ()):
        return {"stop_reason": "stop_sequence", "stop_sequence": choice.stop}
    return {"stop_reason": reason, "stop_sequence": None}


def _usage(answer: Answer) -> dict[str, int]:
    """What came out of the prompt's cache is counted apart, as Anthropic does."""
    usage = answer.usage
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return {
        "input_tokens": usage.get("prompt_tokens", 0) - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.get("completion_tokens", 0),
    }


class MessageWriter:
    """Content blocks follow one another: the next opens when the one before is closed."""

    def __init__(self, asked: Asked, who: Identity, answer: Answer) -> None:
        self._asked = asked
        self._who = who
        self._answer = answer
        self._index = -1
        self._open: int | None = None
        self._head = ""

    def first(self) -> bytes:
        return _event("message_start", message=_message(self._who))

    def chunk(self, chunk: Mapping[str, Any]) -> bytes:
        return b"".join(piece for part in chunk["choices"] for piece in self._part(part["delta"]))

    def _part(self, delta: Mapping[str, Any]) -> Iterator[bytes]:
        if text := delta.get("content"):
            if self._open != _TEXT:
                yield from self._start(_TEXT, {"type": "text", "text": ""})
            yield f"{self._head}{dumps(text)}}}}}\n\n".encode()
        for call in delta.get("tool_calls") or ():
            if self._open != call["index"]:
                known = self._answer.first.tool_calls[call["index"]]
                yield from self._start(call["index"], _tool_use(known, {}))
            if text := (call.get("function") or {}).get("arguments"):
                yield f"{self._head}{dumps(text)}}}}}\n\n".encode()

    def _start(self, number: int, block: Mapping[str, Any]) -> Iterator[bytes]:
        yield self._stop()
        self._open = number
        self._index += 1
        yield _event("content_block_start", index=self._index, content_block=block)
        # The same for every piece of a block, and so written once.
        piece = "text_delta" if number == _TEXT else "input_json_delta"
        field = "text" if number == _TEXT else "partial_json"
        self._head = (
            'event: content_block_delta\ndata: {"type":"content_block_delta",'
            f'"index":{self._index},"delta":{{"type":"{piece}","{field}":'
        )

    def _stop(self) -> bytes:
        return b"" if self._open is None else _event("content_block_stop", index=self._index)

    def last(self, facts: Mapping[str, Any]) -> bytes:
        end = _end(self._asked, self._answer.first)
        ended = _event("message_delta", delta=end, usage=_usage(self._answer))
        return self._stop() + ended + _event("message_stop", **tail(facts))

    def broken(self, fault: Fault) -> bytes:
        return event(error_body(fault), "error")


def _event(kind: str, **fields: Any) -> bytes:
    return event({"type": kind, **fields}, kind)
