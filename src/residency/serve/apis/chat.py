"""POST /v1/chat/completions, OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Tag, model_validator

from residency.serve.answer import Answer, Choice, Identity, tokens
from residency.serve.apis.dialect import ChunkWriter, Dialect, tail
from residency.serve.apis.tools import (
    Function,
    ToolChoice,
    arguments_of,
    check_results,
    check_together,
    form_option,
    tool_options,
)
from residency.serve.asked import Asked
from residency.serve.schema import (
    TEXT_OR_OBJECT,
    FunctionName,
    HintedRequest,
    JsonObject,
    NotOffered,
    Part,
    SampledRequest,
    Text,
    invalid,
    read,
    refuse,
)
from residency.types import Message


class _Called(Part):
    name: FunctionName
    arguments: Annotated[str, AfterValidator(arguments_of)]


class _ToolCall(Part):
    id: str
    type: Literal["function"]
    function: _Called


class _Message(Part):
    """One message. What OpenAI's client echoes as null in an answer may come back as null."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | None = None
    name: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: NotOffered = None
    audio: NotOffered = None
    function_call: NotOffered = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None

    @model_validator(mode="after")
    def _whole(self) -> _Message:
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise invalid(f"a {self.role} message needs content")
        if self.tool_calls is not None and self.role != "assistant":
            raise invalid("only an assistant message has tool_calls")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise invalid("a tool message, and no other, has tool_call_id")
        return self


class _JsonSchema(Part):
    name: FunctionName
    description: str | None = None
    schema_: Annotated[JsonObject, Field(alias="schema")]
    strict: bool | None = None


class _ResponseFormat(Part):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None

    @model_validator(mode="after")
    def _whole(self) -> _ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise invalid("type json_schema, and no other, needs json_schema")
        return self


class _Tool(Part):
    type: Literal["function"]
    function: Function


class _Named(Part):
    name: str


class _ChosenTool(Part):
    type: Literal["function"]
    function: _Named


_ToolChoice = Annotated[
    Annotated[ToolChoice, Tag(":text")] | Annotated[_ChosenTool, Tag(":object")], TEXT_OR_OBJECT
]


class _ChatRequest(SampledRequest, HintedRequest):
    """`max_tokens` is the older name of `max_completion_tokens`."""

    messages: Annotated[list[_Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    response_format: _ResponseFormat | None = None
    tools: Annotated[list[_Tool], Field(min_length=1)] | None = None
    tool_choice: _ToolChoice | None = None
    # Hints and defaults that change no answer.
    store: Literal[False] | None = None
    modalities: list[Literal["text"]] | None = None
    verbosity: Literal["medium"] | None = None
    reasoning_effort: Annotated[None, refuse("these models answer without reasoning")] = None
    functions: Annotated[None, refuse("use tools")] = None
    function_call: Annotated[None, refuse("use tool_choice")] = None
    audio: NotOffered = None
    prediction: NotOffered = None
    web_search_options: NotOffered = None

    @model_validator(mode="after")
    def _whole(self) -> _ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise invalid("top_logprobs needs logprobs: true")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise invalid("give max_completion_tokens or max_tokens, not both")
        return self


def _parse(body: bytes) -> Asked:
    given = read(_ChatRequest, body)
    options = given.sampling() | _tools(given) | _form(given)
    if given.max_completion_tokens:
        options["max_tokens"] = given.max_completion_tokens
    if given.logprobs:
        # Without a number llama.cpp gives 20 of them, and with 0 no log-probabilities at all.
        options |= {"logprobs": True, "top_logprobs": given.top_logprobs or 1}
    check_together(options, "response_format")
    check_results(messages := tuple(_message(one) for one in given.messages))
    return Asked(
        api="chat",
        model=given.model,
        messages=messages,
        options=options,
        n=given.n or 1,
        stream=bool(given.stream),
        usage=given.usage,
        subject=given.subject,
        tags=given.metadata or {},
        echo={"top_logprobs": given.top_logprobs or 0},
        wishes=given.wishes(),
    )


def _tools(given: _ChatRequest) -> dict[str, Any]:
    chosen = given.tool_choice
    return tool_options(
        [tool.function for tool in given.tools or ()],
        None if isinstance(chosen, _ChosenTool) else chosen,
        chosen.function.name if isinstance(chosen, _ChosenTool) else None,
        parallel=given.parallel_tool_calls,
        place="tools[{}].function.parameters",
    )


def _form(given: _ChatRequest) -> dict[str, Any]:
    form = given.response_format
    if form is None:
        return {}
    if form.json_schema is None:
        return {"response_format": {"type": form.type}}
    return form_option(
        form.json_schema.schema_,
        name=form.json_schema.name,
        strict=bool(form.json_schema.strict),
        place="response_format.json_schema.schema",
    )


def _message(one: _Message) -> Message:
    """A developer message is what OpenAI renamed the system message to; templates know `system`."""
    extra = one.model_dump(include={"name", "tool_calls", "tool_call_id"}, exclude_none=True)
    role = "system" if one.role == "developer" else one.role
    return Message(role=role, content=one.content or "", extra=extra)


def _writer(asked: Asked, who: Identity, answer: Answer) -> ChunkWriter:
    top = asked.echo["top_logprobs"]

    def form(part: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "index": part["index"],
            "delta": part["delta"],
            "logprobs": _logprobs(part.get("logprobs"), top),
            "finish_reason": part.get("finish_reason"),
        }

    return ChunkWriter("chat.completion.chunk", form, asked=asked, who=who, answer=answer)


def _logprobs(logprobs: Mapping[str, Any] | None, top: int) -> dict[str, Any] | None:
    return {"content": tokens(logprobs.get("content"), top), "refusal": None} if logprobs else None


def _whole(asked: Asked, who: Identity, answer: Answer, facts: Mapping[str, Any]) -> dict[str, Any]:
    top = asked.echo["top_logprobs"]
    choices = [_choice(index, choice, top) for index, choice in answer.in_order()]
    usage = answer.usage or None
    return {**who.fields("chat.completion"), "choices": choices, "usage": usage, **tail(facts)}


def _choice(index: int, choice: Choice, top: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    if calls := choice.calls:
        message |= {"content": choice.text or None, "tool_calls": calls}
    return {
        "index": index,
        "message": message,
        "logprobs": _logprobs({"content": choice.logprobs} if choice.logprobs else None, top),
        "finish_reason": choice.finish_reason or "stop",
    }


CHAT = Dialect(
    name="chat",
    path="/v1/chat/completions",
    prefix="chatcmpl-",
    parse=_parse,
    writer=_writer,
    whole=_whole,
)
