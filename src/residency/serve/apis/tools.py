"""Tools and answers of a given form, which every API spells in its own way."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from residency.serve.apis import json_schema
from residency.serve.errors import RequestError
from residency.serve.schema import FunctionName, JsonObject, Part, invalid
from residency.types import Message

MAX_TOOLS = 128
ToolChoice = Literal["none", "auto", "required"]


class Function(Part):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: FunctionName
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


def tool_options(
    tools: Sequence[Function] | None,
    choice: ToolChoice | None,
    only: str | None = None,
    *,
    parallel: bool | None = None,
    place: str,
) -> dict[str, Any]:
    """The tools in the engine's request; `only` names the one that must be called.

    llama.cpp takes a `tool_choice` that is an object for "auto", so one tool alone is passed on
    then. `place` names a tool's schema in errors, with `{}` for its number. Raises `RequestError`.
    """
    if not tools:
        if choice or only:
            raise _wrong("tool_choice", "tool_choice needs tools")
        return {}
    if len(tools) > MAX_TOOLS:
        raise _wrong("tools", f"over {MAX_TOOLS} tools")
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise _wrong("tools", "two tools have the same name")
    if only is not None and only not in names:
        raise _wrong("tool_choice", f"there is no tool {only!r}; known: {', '.join(names)}")
    for number, tool in enumerate(tools):
        json_schema.check(tool.parameters or {}, place.format(number), strict=bool(tool.strict))
    passed = [tool for tool in tools if only in (None, tool.name)]
    options: dict[str, Any] = {"tools": [_passed_on(tool) for tool in passed]}
    if only or choice:
        options["tool_choice"] = "required" if only else choice
    if parallel is not None:
        options["parallel_tool_calls"] = parallel
    return options


def _passed_on(tool: Function) -> dict[str, Any]:
    function = tool.model_dump(include=set(Function.model_fields), exclude_none=True)
    return {"type": "function", "function": function}


def form_option(
    schema: Mapping[str, Any], *, name: str = "answer", strict: bool, place: str
) -> dict[str, Any]:
    """An answer that must follow `schema`. Raises `RequestError` when it cannot."""
    json_schema.check(schema, place, strict=strict)
    form = {"name": name, "schema": schema, "strict": strict}
    return {"response_format": {"type": "json_schema", "json_schema": form}}


def check_together(options: Mapping[str, Any], param: str) -> None:
    """Raises `RequestError` for a pair of options of which llama.cpp ignores or refuses one."""
    tools = "tools" in options and options.get("tool_choice") != "none"
    form = options.get("response_format", {}).get("type", "text")
    if tools and form != "text":
        raise _wrong(param, f"{param} and tools: the tools would be ignored; give one of them")
    if tools and options.get("logprobs"):
        raise _wrong("logprobs", "logprobs are not given together with tools")


def arguments_of(text: str) -> str:
    """Chat templates read a call's arguments as an object; another text would be a fault there."""
    try:
        known = json.loads(text)
        json.dumps(known, allow_nan=False)
    except (ValueError, RecursionError):
        known = None
    if not isinstance(known, dict):
        raise invalid("arguments must be a JSON object as text")
    return text


def check_results(messages: Sequence[Message]) -> None:
    """Raises `RequestError` for a tool's result that answers no call before it."""
    calls: set[str] = set()
    for number, message in enumerate(messages):
        calls |= {call["id"] for call in message.extra.get("tool_calls", ())}
        if message.role == "tool" and message.extra["tool_call_id"] not in calls:
            raise RequestError(
                f"messages[{number}]: no call before it has the id "
                f"{message.extra['tool_call_id'][:80]!r}",
                code="invalid_value",
                param=f"messages[{number}]",
            )


def _wrong(param: str, message: str) -> RequestError:
    return RequestError(message, code="invalid_value", param=param)
