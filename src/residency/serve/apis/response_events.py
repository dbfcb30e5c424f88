"""What `/v1/responses` answers: one response object, or the events that build it.

An answer becomes output items: one message, and one for each call of a function. In a stream an
item is opened when its first piece comes, and all are closed at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from residency.serve.answer import Answer, Choice, Identity, dumps, event, tokens
from residency.serve.apis.dialect import tail
from residency.serve.asked import Asked
from residency.serve.errors import Fault

_MESSAGE = -1
"""The number of the message among the items; a call has its index."""

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def whole(asked: Asked, who: Identity, answer: Answer, facts: Mapping[str, Any]) -> dict[str, Any]:
    choice = answer.first
    message = [_MESSAGE] if choice.content or not choice.tool_calls else []
    return _finished(asked, who, answer, [*message, *sorted(choice.tool_calls)]) | tail(facts)


def _finished(asked: Asked, who: Identity, answer: Answer, order: Sequence[int]) -> dict[str, Any]:
    choice = answer.first
    status = _status(choice)
    reason = _INCOMPLETE.get(choice.finish_reason or "")
    return _response(asked, who) | {
        "status": status,
        "incomplete_details": {"reason": reason} if reason else None,
        "output": [_item(who, choice, number, asked.echo["top_logprobs"]) for number in order],
        "usage": _usage(answer.usage) if answer.usage else None,
    }


def _status(choice: Choice) -> str:
    return "incomplete" if choice.finish_reason in _INCOMPLETE else "completed"


def _response(asked: Asked, who: Identity) -> dict[str, Any]:
    """The response before anything of it is written."""
    return {
        "id": who.id,
        "object": "response",
        "created_at": who.created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": who.model,
        "output": [],
        "usage": None,
        "background": False,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": False,
        **asked.echo,
    }


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
    }


def _item_id(who: Identity, number: int) -> str:
    name = who.id.partition("_")[2]
    return f"msg_{name}" if number == _MESSAGE else f"fc_{name}_{number}"


def _text(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _item(who: Identity, choice: Choice, number: int, top: int) -> dict[str, Any]:
    """An item as it is at the end."""
    if number == _MESSAGE:
        part = _text(choice.text, tokens(choice.logprobs, top))
        more: dict[str, Any] = {"role": "assistant", "content": [part]}
    else:
        more = _call(choice.tool_calls[number])
    kind = "message" if number == _MESSAGE else "function_call"
    return {"id": _item_id(who, number), "type": kind, "status": _status(choice), **more}


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    return {"call_id": call["id"], **call["function"]}


class ResponseWriter:
    """Numbers the events of one answer; `order` has the items as they were opened."""

    def __init__(self, asked: Asked, who: Identity, answer: Answer) -> None:
        self._asked = asked
        self._who = who
        self._answer = answer
        self._order: list[int] = []
        self._number = -1
        self._head = ""

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return event({"type": kind, "sequence_number": self._number, **fields}, kind)

    def first(self) -> bytes:
        response = _response(self._asked, self._who)
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def chunk(self, chunk: Mapping[str, Any]) -> bytes:
        return b"".join(piece for part in chunk["choices"] for piece in self._part(part))

    def _part(self, part: Mapping[str, Any]) -> Iterator[bytes]:
        delta = part["delta"]
        if text := delta.get("content"):
            if _MESSAGE not in self._order:
                yield from self._open(_MESSAGE)
            content = (part.get("logprobs") or {}).get("content")
            logprobs = tokens(content, self._asked.echo["top_logprobs"])
            yield self._delta(text, dumps(logprobs) if logprobs else "[]")
        for call in delta.get("tool_calls") or ():
            if call["index"] not in self._order:
                yield from self._open(call["index"])
            if text := (call.get("function") or {}).get("arguments"):
                place = self._place(call["index"])
                yield self._event("response.function_call_arguments.delta", **place, delta=text)

    def _delta(self, text: str, logprobs: str) -> bytes:
        self._number += 1
        changing = f'"sequence_number":{self._number},"logprobs":{logprobs},"delta":{dumps(text)}'
        return f"{self._head}{changing}}}\n\n".encode()

    def _place(self, number: int) -> dict[str, Any]:
        place = {"item_id": _item_id(self._who, number), "output_index": self._order.index(number)}
        return place | ({"content_index": 0} if number == _MESSAGE else {})

    def _open(self, number: int) -> Iterator[bytes]:
        self._order.append(number)
        place = self._place(number)
        item: dict[str, Any] = {"id": place["item_id"], "status": "in_progress"}
        if number == _MESSAGE:
            item |= {"type": "message", "role": "assistant", "content": []}
        else:
            item |= {"type": "function_call", **_call(self._answer.first.tool_calls[number])}
            item["arguments"] = ""
        yield self._event(
            "response.output_item.added", output_index=place["output_index"], item=item
        )
        if number == _MESSAGE:
            yield self._event("response.content_part.added", **place, part=_text("", []))
            # The same for every piece of text, and so written once.
            kind = "response.output_text.delta"
            self._head = f"event: {kind}\ndata: {dumps({'type': kind, **place})[:-1]},"

    def last(self, facts: Mapping[str, Any]) -> bytes:
        events = [] if self._order else list(self._open(_MESSAGE))
        response = _finished(self._asked, self._who, self._answer, self._order)
        for number, item in zip(self._order, response["output"], strict=True):
            events += self._close(number, item)
        kind = f"response.{response['status']}"
        return b"".join([*events, self._event(kind, response=response | tail(facts))])

    def _close(self, number: int, item: Mapping[str, Any]) -> Iterator[bytes]:
        place = self._place(number)
        if number == _MESSAGE:
            part = item["content"][0]
            text = {"text": part["text"], "logprobs": part["logprobs"]}
            yield self._event("response.output_text.done", **place, **text)
            yield self._event("response.content_part.done", **place, part=part)
        else:
            text = {"arguments": item["arguments"]}
            yield self._event("response.function_call_arguments.done", **place, **text)
        index = place["output_index"]
        yield self._event("response.output_item.done", output_index=index, item=item)

    def broken(self, fault: Fault) -> bytes:
        response = _finished(self._asked, self._who, self._answer, self._order)
        output = [item | {"status": "incomplete"} for item in response["output"]]
        failed = {"status": "failed", "error": _error(fault), "output": output}
        about = {"residency": fault.body()["residency"] | {"code": fault.code}}
        return self._event("response.failed", response=response | failed | about)


def _error(fault: Fault) -> dict[str, Any]:
    """The API has words of its own for what goes wrong; ours goes into the `residency` object."""
    code = "rate_limit_exceeded" if fault.status == 429 else "server_error"
    return {
        "code": "invalid_prompt" if fault.status == 400 else code,
        "message": fault.message,
    }
