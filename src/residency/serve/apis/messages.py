"""POST /v1/messages and /v1/messages/count_tokens, Anthropic's API: what is asked."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Tag, model_validator

from residency.serve.apis.dialect import Dialect
from residency.serve.apis.message_events import MessageWriter, error_body, whole
from residency.serve.apis.tools import (
    Function,
    ToolChoice,
    check_results,
    check_together,
    form_option,
    tool_options,
)
from residency.serve.asked import Asked
from residency.serve.schema import (
    FunctionName,
    JsonObject,
    NotOffered,
    Part,
    Request,
    Stop,
    by_type,
    invalid,
    read,
)
from residency.types import Message

MAX_STOP_SEQUENCES = 16
_CHOICES: dict[str, ToolChoice] = {"auto": "auto", "any": "required", "none": "none"}


def _blocks(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class _Block(Part):
    """`cache_control` changes no answer: the engine keeps every prefix by itself."""

    cache_control: dict[str, Any] | None = None


class _Text(_Block):
    type: Literal["text"]
    text: str
    citations: NotOffered = None


class _ToolUse(_Block):
    type: Literal["tool_use"]
    id: str
    name: FunctionName
    input: JsonObject
    caller: dict[str, Any] | None = None


class _ToolResult(_Block):
    type: Literal["tool_result"]
    tool_use_id: str
    content: Annotated[list[_Text], BeforeValidator(_blocks)] = Field(default=[])
    is_error: bool | None = None


_AnyBlock = Annotated[
    Annotated[_Text, Tag(":text")]
    | Annotated[_ToolUse, Tag(":tool_use")]
    | Annotated[_ToolResult, Tag(":tool_result")],
    by_type("text", "tool_use", "tool_result"),
]


class _Message(Part):
    role: Literal["user", "assistant"]
    content: Annotated[list[_AnyBlock], BeforeValidator(_blocks)]

    @model_validator(mode="after")
    def _whole(self) -> _Message:
        wrong = "tool_result" if self.role == "assistant" else "tool_use"
        if any(block.type == wrong for block in self.content):
            raise invalid(f"the role {self.role} has no {wrong}")
        return self


class _Tool(_Block):
    type: Literal["custom"] | None = None
    name: FunctionName
    description: str | None = None
    input_schema: JsonObject
    strict: bool | None = None


class _ToolChoice(Part):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None

    @model_validator(mode="after")
    def _whole(self) -> _ToolChoice:
        if (self.type == "tool") != (self.name is not None):
            raise invalid("type tool, and no other, needs name")
        return self


class _Format(Part):
    type: Literal["json_schema"]
    schema_: Annotated[JsonObject, Field(alias="schema")]


class _OutputConfig(Part):
    format: _Format | None = None
    effort: NotOffered = None


class _Thinking(Part):
    type: Literal["disabled"]


class _Metadata(Part):
    user_id: str | None = None


class _CountRequest(Request):
    """What counting and answering have in common."""

    messages: Annotated[list[_Message], Field(min_length=1)]
    system: Annotated[list[_Text], BeforeValidator(_blocks)] | None = None
    tools: list[_Tool] | None = None
    tool_choice: _ToolChoice | None = None
    output_config: _OutputConfig | None = None
    thinking: _Thinking | None = None
    cache_control: dict[str, Any] | None = None


class _MessagesRequest(_CountRequest):
    max_tokens: Annotated[int, Field(ge=1)]
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1)] | None = None
    stop_sequences: Annotated[list[Stop], Field(max_length=MAX_STOP_SEQUENCES)] | None = None
    metadata: _Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None


def _parse(body: bytes) -> Asked:
    given = read(_MessagesRequest, body)
    options = given.given("temperature", "top_p", "top_k", "max_tokens")
    if given.stop_sequences:
        options["stop"] = given.stop_sequences
    return Asked(
        api="messages",
        model=given.model,
        messages=_messages(given),
        options=options | _constraints(given),
        stream=bool(given.stream),
        subject=(given.metadata.user_id if given.metadata else None) or "",
        wishes=given.wishes(),
    )


def parse_count(body: bytes) -> Asked:
    """The request of `count_tokens`, whose answer is `{"input_tokens": ...}`. Raises as `parse`."""
    given = read(_CountRequest, body)
    return Asked(
        api="messages",
        model=given.model,
        messages=_messages(given),
        options=_constraints(given),
        wishes=given.wishes(),
    )


def _constraints(given: _CountRequest) -> dict[str, Any]:
    chosen = given.tool_choice
    one_at_a_time = chosen and chosen.disable_parallel_tool_use
    options = tool_options(
        [_function(tool) for tool in given.tools or ()],
        _CHOICES.get(chosen.type) if chosen else None,
        chosen.name if chosen else None,
        parallel=False if one_at_a_time else None,
        place="tools[{}].input_schema",
    )
    if given.output_config and given.output_config.format:
        schema = given.output_config.format.schema_
        options |= form_option(schema, strict=True, place="output_config.format.schema")
    check_together(options, "output_config.format")
    return options


def _function(tool: _Tool) -> Function:
    return Function(
        name=tool.name,
        description=tool.description,
        parameters=tool.input_schema,
        strict=tool.strict,
    )


def _messages(given: _CountRequest) -> tuple[Message, ...]:
    system = [Message(role="system", content=_joined(given.system))] if given.system else []
    found = (*system, *(one for each in given.messages for one in _split(each)))
    check_results(found)
    return found


def _split(given: _Message) -> list[Message]:
    """The messages of the chat form: a tool's result has a message of its own there."""
    results = [_result(block) for block in given.content if isinstance(block, _ToolResult)]
    texts = [block for block in given.content if isinstance(block, _Text)]
    calls = [_call(block) for block in given.content if isinstance(block, _ToolUse)]
    extra = {"tool_calls": calls} if calls else {}
    if not texts and results:
        return results
    return [*results, Message(role=given.role, content=_joined(texts), extra=extra)]


def _call(block: _ToolUse) -> dict[str, Any]:
    arguments = json.dumps(block.input, ensure_ascii=False)
    function = {"name": block.name, "arguments": arguments}
    return {"id": block.id, "type": "function", "function": function}


def _result(block: _ToolResult) -> Message:
    """Chat templates know no failed result, so the text says it."""
    text = _joined(block.content)
    return Message(
        role="tool",
        content=f"Error: {text}" if block.is_error else text,
        extra={"tool_call_id": block.tool_use_id},
    )


def _joined(texts: list[_Text]) -> str:
    return "\n".join(text.text for text in texts)


MESSAGES = Dialect(
    name="messages",
    path="/v1/messages",
    prefix="msg_",
    parse=_parse,
    writer=MessageWriter,
    whole=whole,
    error=error_body,
)
