"""The body of a chat request, checked at the edge: what would be ignored is refused.

Fields, ranges and defaults are those of OpenAI's chat completions API; null means not given.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from residency.serve.errors import RequestError

# llama.cpp's seeds are 32-bit, and the highest one means "random".
HIGHEST_SEED = 2**32 - 2
MAX_STOPS = 4


def _invalid(message: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_value", "{reason}", {"reason": message})


def _text_of(content: Any) -> Any:
    """Text parts joined by line breaks, as vLLM and llama.cpp join them; a text as it is."""
    if not isinstance(content, list):
        return content
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind != "text":
            raise _invalid(f"this model reads text only, not a part of type {kind!r}")
        if set(part) != {"type", "text"} or not isinstance(part["text"], str):
            raise _invalid("a text part has 'type' and 'text', and nothing else")
    return "\n".join(part["text"] for part in content)


def _stops(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ChatMessage(_Part):
    """One message. What OpenAI's client echoes as null in an answer may come back as null."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | None, BeforeValidator(_text_of)] = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None

    @model_validator(mode="after")
    def _whole(self) -> ChatMessage:
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise _invalid(f"a {self.role} message needs content")
        if self.tool_calls is not None and self.role != "assistant":
            raise _invalid("only an assistant message has tool_calls")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise _invalid("a tool message, and no other, has tool_call_id")
        return self


class StreamOptions(_Part):
    include_usage: bool = False


class ResponseFormat(_Part):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _whole(self) -> ResponseFormat:
        schema = (self.json_schema or {}).get("schema")
        if self.type == "json_schema" and not isinstance(schema, Mapping):
            raise _invalid("type json_schema needs json_schema.schema")
        return self


class Tool(_Part):
    type: Literal["function"]
    function: dict[str, Any]


class ChatRequest(_Part):
    """`max_tokens` is the older name of `max_completion_tokens`; `user` and `metadata` are the
    client's own and do not reach the engine."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: (
        Annotated[
            list[Annotated[str, Field(min_length=1)]],
            Field(max_length=MAX_STOPS),
            BeforeValidator(_stops),
        ]
        | None
    ) = None
    seed: Annotated[int, Field(ge=0, le=HIGHEST_SEED)] | None = None
    n: Literal[1] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(min_length=1)] | None = None
    # llama.cpp reads a text here and takes any object for "auto" without a word.
    tool_choice: Literal["none", "auto", "required"] | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None

    @model_validator(mode="after")
    def _whole(self) -> ChatRequest:
        if self.stream_options is not None and not self.stream:
            raise _invalid("stream_options needs stream: true")
        if self.top_logprobs is not None and not self.logprobs:
            raise _invalid("top_logprobs needs logprobs: true")
        if self.tool_choice is not None and self.tools is None:
            raise _invalid("tool_choice needs tools")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise _invalid("give max_completion_tokens or max_tokens, not both")
        return self


def parse(body: bytes) -> ChatRequest:
    """The request in `body`. Raises `RequestError` that names the field and, where it is
    unknown, the nearest known one."""
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise _request_error(error) from None


def _request_error(error: ValidationError) -> RequestError:
    problem = error.errors(include_url=False, include_context=False)[0]
    kind, loc = problem["type"], problem["loc"]
    param = _path(loc) or None
    if kind == "json_invalid":
        return RequestError(f"the body is not JSON: {problem['msg']}", code="invalid_json")
    if kind == "extra_forbidden":
        return RequestError(_unknown(loc), code="unknown_parameter", param=param)
    if kind == "missing":
        return RequestError(f"{param} is missing", code="missing_required_parameter", param=param)
    what = f"{param}: {problem['msg']}" if param else str(problem["msg"])
    return RequestError(what, code="invalid_value", param=param)


def _path(loc: tuple[int | str, ...]) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in loc).lstrip(".")


def _unknown(loc: tuple[int | str, ...]) -> str:
    parts: dict[int | str, type[BaseModel]] = {
        "messages": ChatMessage,
        "stream_options": StreamOptions,
        "response_format": ResponseFormat,
        "tools": Tool,
    }
    known = sorted((ChatRequest if len(loc) == 1 else parts[loc[0]]).model_fields)
    near = difflib.get_close_matches(str(loc[-1]), known, n=1)
    more = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"unknown parameter {_path(loc)}; {more}"
