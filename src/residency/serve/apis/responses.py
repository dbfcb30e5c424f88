"""POST /v1/responses, OpenAI's responses: what is asked. No state is kept between requests."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Tag, model_validator

from residency.serve.apis.dialect import Dialect
from residency.serve.apis.response_events import ResponseWriter, whole
from residency.serve.apis.tools import (
    Function,
    ToolChoice,
    arguments_of,
    check_results,
    check_together,
    form_option,
    tool_options,
)
from residency.serve.asked import Asked, Wishes
from residency.serve.schema import (
    TEXT_OR_OBJECT,
    FunctionName,
    HintedRequest,
    JsonObject,
    NotOffered,
    Part,
    by_type,
    invalid,
    read,
    refuse,
)
from residency.types import Message

_NO_STATE = "no answers are kept here; send the whole conversation as input"


def _not_kept(store: bool | None) -> bool | None:
    if store:
        raise invalid(_NO_STATE)
    return store


def _parts(content: Any) -> Any:
    return [{"type": "input_text", "text": content}] if isinstance(content, str) else content


class _Text(Part):
    """`annotations` and `logprobs` come back with an answer that is sent again."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    logprobs: list[Any] | None = None


_Texts = Annotated[list[_Text], BeforeValidator(_parts)]


def _joined(texts: list[_Text]) -> str:
    return "\n".join(text.text for text in texts)


class _Item(Part):
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class _MessageItem(_Item):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: _Texts
    phase: Literal["commentary", "final_answer"] | None = None

    def message(self) -> Message:
        role = "system" if self.role == "developer" else self.role
        return Message(role=role, content=_joined(self.content))


class _CallItem(_Item):
    type: Literal["function_call"]
    call_id: str
    name: FunctionName
    arguments: Annotated[str, AfterValidator(arguments_of)]

    def message(self) -> Message:
        function = {"name": self.name, "arguments": self.arguments}
        call = {"id": self.call_id, "type": "function", "function": function}
        return Message(role="assistant", content="", extra={"tool_calls": [call]})


class _ResultItem(_Item):
    type: Literal["function_call_output"]
    call_id: str
    output: _Texts

    def message(self) -> Message:
        return Message(
            role="tool", content=_joined(self.output), extra={"tool_call_id": self.call_id}
        )


_AnyItem = Annotated[
    Annotated[_MessageItem, Tag(":message")]
    | Annotated[_CallItem, Tag(":function_call")]
    | Annotated[_ResultItem, Tag(":function_call_output")],
    by_type("message", "function_call", "function_call_output", default="message"),
]


def _items(given: Any) -> Any:
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


class _Tool(Function):
    type: Literal["function"]


class _ChosenTool(Part):
    type: Literal["function"]
    name: str


_ToolChoice = Annotated[
    Annotated[ToolChoice, Tag(":text")] | Annotated[_ChosenTool, Tag(":object")], TEXT_OR_OBJECT
]


class _Format(Part):
    type: Literal["text", "json_object", "json_schema"]
    name: FunctionName | None = None
    description: str | None = None
    schema_: Annotated[JsonObject | None, Field(alias="schema")] = None
    strict: bool | None = None

    @model_validator(mode="after")
    def _whole(self) -> _Format:
        wanted = self.type == "json_schema"
        if wanted != (self.name is not None) or wanted != (self.schema_ is not None):
            raise invalid("type json_schema, and no other, needs name and schema")
        return self


class _TextConfig(Part):
    format: _Format | None = None
    verbosity: Literal["medium"] | None = None


class _StreamOptions(Part):
    include_obfuscation: bool | None = None


class _ResponsesRequest(HintedRequest):
    """`truncation: "auto"` is our context policy "prune"."""

    input: Annotated[list[_AnyItem], Field(min_length=1), BeforeValidator(_items)]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    text: _TextConfig | None = None
    tools: list[_Tool] | None = None
    tool_choice: _ToolChoice | None = None
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = (
        None
    )
    truncation: Literal["auto", "disabled"] | None = None
    # Hints and defaults that change no answer.
    stream_options: _StreamOptions | None = None
    store: Annotated[bool | None, AfterValidator(_not_kept)] = None
    background: Literal[False] | None = None
    previous_response_id: Annotated[None, refuse(_NO_STATE)] = None
    conversation: Annotated[None, refuse(_NO_STATE)] = None
    reasoning: Annotated[None, refuse("these models answer without reasoning")] = None
    max_tool_calls: NotOffered = None
    prompt: NotOffered = None

    @model_validator(mode="after")
    def _whole(self) -> _ResponsesRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise invalid("top_logprobs needs message.output_text.logprobs in include")
        return self

    @property
    def logprobs(self) -> bool:
        return "message.output_text.logprobs" in (self.include or ())


def _parse(body: bytes) -> Asked:
    given = read(_ResponsesRequest, body)
    options = given.given("temperature", "top_p") | _tools(given) | _form(given)
    if given.max_output_tokens:
        options["max_tokens"] = given.max_output_tokens
    if given.logprobs:
        options |= {"logprobs": True, "top_logprobs": given.top_logprobs or 1}
    check_together(options, "text.format")
    check_results(messages := _messages(given))
    return Asked(
        api="responses",
        model=given.model,
        messages=messages,
        options=options,
        stream=bool(given.stream),
        subject=given.subject,
        tags=given.metadata or {},
        echo=_echo(given),
        wishes=_wishes(given),
    )


def _wishes(given: _ResponsesRequest) -> Wishes:
    wishes = given.wishes()
    if given.truncation == "auto" and wishes.context is None:
        return dataclasses.replace(wishes, context="prune")
    return wishes


def _messages(given: _ResponsesRequest) -> tuple[Message, ...]:
    """Calls that stand next to one another are of one message, with the text before them."""
    found = [Message(role="system", content=given.instructions)] if given.instructions else []
    for item in given.input:
        one = item.message()
        if one.extra.get("tool_calls") and found and found[-1].role == "assistant":
            last = found.pop()
            calls = [*last.extra.get("tool_calls", ()), *one.extra["tool_calls"]]
            one = dataclasses.replace(last, extra={"tool_calls": calls})
        found.append(one)
    return tuple(found)


def _tools(given: _ResponsesRequest) -> dict[str, Any]:
    chosen = given.tool_choice
    return tool_options(
        given.tools,
        None if isinstance(chosen, _ChosenTool) else chosen,
        chosen.name if isinstance(chosen, _ChosenTool) else None,
        parallel=given.parallel_tool_calls,
        place="tools[{}].parameters",
    )


def _form(given: _ResponsesRequest) -> dict[str, Any]:
    form = given.text.format if given.text else None
    if form is None:
        return {}
    if form.schema_ is None or form.name is None:
        return {"response_format": {"type": form.type}}
    strict = form.strict is not False  # the default of this API
    return form_option(form.schema_, name=form.name, strict=strict, place="text.format.schema")


def _echo(given: _ResponsesRequest) -> dict[str, Any]:
    """What the answer repeats, with the API's defaults."""
    form = given.text.format if given.text else None
    chosen = given.tool_choice
    return {
        "instructions": given.instructions,
        "max_output_tokens": given.max_output_tokens,
        "metadata": given.metadata or {},
        "parallel_tool_calls": given.parallel_tool_calls is not False,
        "temperature": given.temperature,
        "text": {
            "format": form.model_dump(by_alias=True, exclude_none=True)
            if form
            else {"type": "text"}
        },
        "tool_choice": chosen.model_dump() if isinstance(chosen, _ChosenTool) else chosen or "auto",
        "tools": [_tool(tool) for tool in given.tools or ()],
        "top_logprobs": given.top_logprobs or 0,
        "top_p": given.top_p,
        "truncation": given.truncation or "disabled",
    }


def _tool(tool: _Tool) -> dict[str, Any]:
    return tool.model_dump() | {"strict": bool(tool.strict)}


RESPONSES = Dialect(
    name="responses",
    path="/v1/responses",
    prefix="resp_",
    parse=_parse,
    writer=ResponseWriter,
    whole=whole,
)
