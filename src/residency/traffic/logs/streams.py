"""Streamed answers that were logged in pieces, put together again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from residency.traffic.logs.values import count, mapping, objects, opened, text

_EVENTS = "message_start", "content_block_start", "content_block_delta", "message_delta"
_PIECES = "chunks", "streamed_data", "stream"


def whole(value: Any) -> Any:
    """The response that the pieces in `value` are of: chunks of OpenAI's chat, events of
    Anthropic's or of OpenAI's Responses, as objects, as JSON, or as server-sent events; `value`
    itself where it is none of these.
    """
    if isinstance(value, dict):
        pieces = next((value[name] for name in _PIECES if name in value), None)
        if pieces is None or "choices" in value or isinstance(value.get("content"), list):
            return value
        return whole(opened(pieces))
    if isinstance(value, str) and value.startswith(("data:", "event:")):
        value = value.splitlines()
    if not isinstance(value, list):
        return value
    events = [one for one in map(_event, value) if one]
    if any(_deltas(one) for one in events):
        return _chat(events)
    if any(one.get("type") in _EVENTS for one in events):
        return _message(events)
    last = next((one for one in reversed(events) if isinstance(one.get("response"), dict)), None)
    return last["response"] if last else value


def _event(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        value = opened(value.removeprefix("data:").strip())
    return value if isinstance(value, dict) else {}


def _deltas(event: dict[str, Any]) -> bool:
    """Whether it is a chunk; the choices of a whole answer have a message."""
    return any("delta" in one for one in objects(event.get("choices")))


def _chat(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    choices: dict[int, dict[str, Any]] = {}
    body: dict[str, Any] = {}
    for event in events:
        body |= {k: v for k, v in event.items() if v is not None and k not in ("choices", "object")}
        for one in objects(event.get("choices")):
            index = count(one.get("index"))
            empty = {"role": "assistant", "content": ""}
            choice = choices.setdefault(index, {"index": index, "message": empty})
            _add(choice["message"], mapping(one.get("delta")))
            if one.get("finish_reason"):
                choice["finish_reason"] = one["finish_reason"]
    return {**body, "choices": [choices[index] for index in sorted(choices)]}


def _add(message: dict[str, Any], delta: Any) -> None:
    message["content"] += text(delta.get("content"))
    for part in objects(delta.get("tool_calls")):
        calls = message.setdefault("tool_calls", [])
        index = count(part.get("index"))
        if index >= len(calls):
            calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call = calls[min(index, len(calls) - 1)]
        call["id"] = text(part.get("id")) or call["id"]
        function = mapping(part.get("function"))
        call["function"]["name"] += text(function.get("name"))
        call["function"]["arguments"] += text(function.get("arguments"))


def _message(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What Anthropic's events build; a tool's input comes as pieces of JSON."""
    body: dict[str, Any] = {"type": "message"}
    blocks: dict[int, dict[str, Any]] = {}
    usage: dict[str, Any] = {}
    for event in events:
        start, delta = mapping(event.get("message")), mapping(event.get("delta"))
        usage |= {**mapping(start.get("usage")), **mapping(event.get("usage"))}
        body |= {k: start[k] for k in ("id", "model") if k in start}
        body |= {k: delta[k] for k in ("stop_reason",) if k in delta}
        if event.get("type") in ("content_block_start", "content_block_delta"):
            block = blocks.setdefault(count(event.get("index")), {"text": "", "json": ""})
            given = mapping(event.get("content_block"))
            block |= {k: v for k, v in given.items() if k not in ("text", "input", "json")}
            block["text"] += text(given.get("text")) + text(delta.get("text"))
            block["json"] += text(delta.get("partial_json"))
    content = [blocks[index] for index in sorted(blocks)]
    for block in content:
        block["input"] = block.pop("json") or "{}"
    return {**body, "content": content, "usage": usage}
