"""Requests and responses of the common APIs, in the form of OpenAI's chat, as the gateway keeps
them; what is in that form, or in that of its completions and embeddings, stays as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from residency.traffic.logs.streams import whole
from residency.traffic.logs.values import count, first, mapping, objects, opened, text

_CODE = re.compile(r"[\w.:-]{1,64}", re.ASCII)
Body = tuple[str, dict[str, Any]]
"""The API whose form it had ("" where that could be several), and the body."""


def asked(value: Any, answer: str = "") -> Body:
    """The request in `value`: a body, messages, or a bare prompt; empty where there is none.
    `answer` is the API whose form the response has, if that is known."""
    body = _unwrapped(value)
    if objects(body) and all("role" in one for one in objects(body)):
        body = {"messages": body}
    if not isinstance(body, dict) or (
        isinstance(value, str) and not {"messages", "model"} & body.keys()
    ):
        return "", {"messages": [_said("user", value)]} if value not in (None, "") else {}
    if isinstance(body.get("messages"), list):
        return _chat(body)
    if "prompt" in body:
        return "completions", body
    if "input" not in body:
        return "", {"messages": [_said("user", body)]} if body else {}
    if answer == "embeddings" or {"encoding_format", "dimensions"} & body.keys():
        return "embeddings", body
    return "responses", _from_responses(body)


def answered(value: Any) -> tuple[str, dict[str, Any] | None]:
    """The response in `value`: a body, the pieces of a stream, a message, or bare text; None where
    there is none, as after a failure."""
    body = whole(_unwrapped(value))
    if turns := objects(body):
        body = turns[-1]
    if not isinstance(body, dict):
        return "", _choices(_said("assistant", value)) if value not in (None, "", []) else None
    if isinstance(body.get("choices"), list):
        return "", body
    if body.get("type") == "message" and isinstance(body.get("content"), list):
        return "messages", _from_messages(body)
    if isinstance(body.get("output"), list):
        return "responses", _from_output(body)
    if any("embedding" in one for one in objects(body.get("data"))):
        # Vectors are nothing to learn an answer from.
        return "embeddings", {k: v for k, v in body.items() if k != "data"}
    if body.get("error") or not body:
        return "", None
    if body.get("role") == "assistant":
        return "", _choices({**body, "content": _flat(body.get("content")) or ""})
    return "", _choices(_said("assistant", value))


def failure(value: Any) -> str:
    """The code of the failure in a response, empty where there is none. Never its message, which
    may say what was asked."""
    error = opened(mapping(_unwrapped(value)).get("error"))
    if not error:
        return ""
    return code(first(mapping(error), "code", "type", "error_class"))


def code(value: Any) -> str:
    """`value` where it is a failure's code and no sentence."""
    name = text(value)
    return name if _CODE.fullmatch(name) else "error"


def used(usage: Any) -> tuple[int, int]:
    """Tokens in and out, by the names that OpenAI, Anthropic and Langfuse give them."""
    named = mapping(usage)
    cached = count(named.get("cache_creation_input_tokens"))
    cached += count(named.get("cache_read_input_tokens"))
    prompt = first(named, "prompt_tokens", "promptTokens", "input_tokens", "input")
    completion = first(named, "completion_tokens", "completionTokens", "output_tokens", "output")
    return count(prompt) + cached, count(completion)


def _unwrapped(value: Any) -> Any:
    """The body of an HTTP request or response that was logged with its headers or status."""
    value = opened(value)
    if isinstance(value, dict) and "body" in value and not {"messages", "choices"} & value.keys():
        return opened(value["body"])
    return value


def _said(role: str, value: Any) -> dict[str, Any]:
    content = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return {"role": role, "content": content}


def _choices(message: Mapping[str, Any], reason: Any = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": message, "finish_reason": reason}]}


def _joined(content: Any) -> str:
    """The text of a string or of content parts."""
    if isinstance(content, str):
        return content
    return "\n".join(filter(None, (text(part.get("text")) for part in objects(content))))


def _chat(value: dict[str, Any]) -> Body:
    messages = value["messages"]
    blocks = [part for one in objects(messages) for part in objects(one.get("content"))]
    kinds = {text(part.get("type")) for part in blocks}
    if "system" in value or kinds & {"tool_use", "tool_result"}:
        system = [_said("system", _joined(value["system"]))] if value.get("system") else []
        split = [part for one in objects(messages) for part in _split(one)]
        rest = {k: v for k, v in value.items() if k != "system"}
        return "messages", {**rest, "messages": system + split}
    if kinds and kinds <= {"text"}:
        plain = [{**one, "content": _flat(one.get("content"))} for one in objects(messages)]
        return "chat", {**value, "messages": plain}
    return "", value


def _flat(content: Any) -> Any:
    return _joined(content) if isinstance(content, list) else content


def _split(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An Anthropic message; the results of tools have messages of their own in OpenAI's form."""
    parts = objects(message.get("content"))
    results = [
        {
            "role": "tool",
            "tool_call_id": text(one.get("tool_use_id")),
            "content": _joined(one.get("content")),
        }
        for one in parts
        if one.get("type") == "tool_result"
    ]
    said: dict[str, Any] = {"role": message.get("role"), "content": _joined(message.get("content"))}
    if calls := _calls(parts):
        said["tool_calls"] = calls
    return results if results and not said["content"] else [*results, said]


def _calls(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The calls of tools among Anthropic's content blocks or the items of OpenAI's Responses."""
    calls = []
    for one in parts:
        if one.get("type") not in ("tool_use", "function_call"):
            continue
        given = first(one, "input", "arguments")
        arguments = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        function = {"name": text(one.get("name")), "arguments": arguments}
        name = text(first(one, "call_id", "id"))
        calls.append({"id": name, "type": "function", "function": function})
    return calls


def _from_messages(value: Mapping[str, Any]) -> dict[str, Any]:
    parts = objects(value["content"])
    return _answer(value, _joined(parts), _calls(parts), value.get("stop_reason"))


def _from_output(value: Mapping[str, Any]) -> dict[str, Any]:
    items = objects(value["output"])
    said = "\n".join(_joined(one.get("content")) for one in items if one.get("type") == "message")
    return _answer(value, said, _calls(items), value.get("status"))


def _answer(
    value: Mapping[str, Any], said: str, calls: list[dict[str, Any]], reason: Any
) -> dict[str, Any]:
    message = _said("assistant", said) | ({"tool_calls": calls} if calls else {})
    kept = {k: value[k] for k in ("id", "model", "created_at", "usage") if k in value}
    return {**kept, **_choices(message, reason)}


def _from_responses(value: Mapping[str, Any]) -> dict[str, Any]:
    given = value["input"]
    system = value.get("instructions")
    messages = [_said("system", system)] if system else []
    if isinstance(given, str):
        messages.append(_said("user", given))
    for one in objects(given):
        if one.get("type") == "function_call_output":
            output = {"tool_call_id": text(one.get("call_id"))}
            messages.append({**_said("tool", one.get("output")), **output})
        elif calls := _calls([one]):
            messages.append({**_said("assistant", ""), "tool_calls": calls})
        else:
            messages.append({"role": one.get("role"), "content": _joined(one.get("content"))})
    rest = {k: v for k, v in value.items() if k not in ("input", "instructions")}
    return {**rest, "messages": messages}
