"""How bodies are read: what would be ignored is refused, and a refusal names its cause.

Ranges and defaults are those of OpenAI's API; null means not given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from residency.config import ContextPolicy, Seconds
from residency.serve.asked import Wishes
from residency.serve.errors import RequestError
from residency.strict import known_keys, nearest

# llama.cpp's seeds are 32-bit, and the highest one means "random".
HIGHEST_SEED = 2**32 - 2
MAX_CHOICES = 8
MAX_STOPS = 4
MAX_FAULTS = 100
MAX_NAME = 64


def invalid(message: str) -> PydanticCustomError:
    """What a validator raises."""
    return PydanticCustomError("invalid_value", "{reason}", {"reason": message})


def refuse(why: str) -> BeforeValidator:
    """For a field of the API that is not offered: null alone passes."""

    def check(value: Any) -> Any:
        if value is not None:
            raise invalid(why)
        return value

    return BeforeValidator(check)


def by_type(*kinds: str, default: str = "") -> Discriminator:
    """Tells the members of a union by their `type`; each carries `Tag(":" + kind)`."""

    def tag(value: Any) -> str:
        return ":" + str(value.get("type", default) if isinstance(value, Mapping) else "")

    known = ", ".join(kinds)
    return Discriminator(
        tag, custom_error_type="invalid_value", custom_error_message=f"type must be one of: {known}"
    )


def _tag_by_form(value: Any) -> str:
    return ":text" if isinstance(value, str) else ":object"


TEXT_OR_OBJECT = Discriminator(_tag_by_form)
"""Tells a text from an object, which carry `Tag(":text")` and `Tag(":object")`."""


def _text_of(content: Any) -> Any:
    """Text parts joined by line breaks, as vLLM and llama.cpp join them; a text as it is."""
    if not isinstance(content, list):
        return content
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind != "text":
            raise invalid(
                f"this model reads text only, not a part of type {str(kind)[:MAX_NAME]!r}"
            )
        if set(part) != {"type", "text"} or not isinstance(part["text"], str):
            raise invalid("a text part has 'type' and 'text', and nothing else")
    return "\n".join(part["text"] for part in content)


def _finite(value: dict[str, Any]) -> dict[str, Any]:
    """An engine would read NaN or Infinity as a broken body of ours; 1e999 becomes the latter."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise invalid("NaN and Infinity are no numbers in JSON") from None
    return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_text_of)]
Stop = Annotated[str, Field(min_length=1)]
Stops = Annotated[list[Stop], Field(max_length=MAX_STOPS), BeforeValidator(_listed)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_finite)]
FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
TokenId = Annotated[str, Field(pattern=r"^[0-9]+$")]
NotOffered = Annotated[None, refuse("this is not offered here")]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Request(Part):
    """What the request of every API has. `timeout` and `ttft_timeout` (seconds), `deterministic`
    and `context` are fields of our own."""

    model: str
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    timeout: Seconds | None = None
    ttft_timeout: Seconds | None = None
    deterministic: bool | None = None
    context: ContextPolicy | None = None

    @model_validator(mode="after")
    def _greedy(self) -> Self:
        if self.deterministic and self.temperature:
            raise invalid("deterministic: true answers greedily; leave temperature out, or 0")
        return self

    def wishes(self) -> Wishes:
        return Wishes(
            timeout=self.timeout,
            ttft_timeout=self.ttft_timeout,
            deterministic=bool(self.deterministic),
            context=self.context,
        )

    def given(self, *names: str) -> dict[str, Any]:
        """Those of the fields that the client gave, as plain values."""
        return self.model_dump(include=set(names), exclude_none=True)


class HintedRequest(Request):
    """What OpenAI's chat and responses have in common. From `safety_identifier` on, hints and
    defaults that change no answer."""

    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: Literal["auto", "default"] | None = None

    @property
    def subject(self) -> str:
        return self.user or self.safety_identifier or ""


class StreamOptions(Part):
    include_usage: bool = False


class SampledRequest(Request):
    """What OpenAI's chat and completions have in common. `user` and `metadata` are the client's own
    and do not reach the engine."""

    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: Stops | None = None
    seed: Annotated[int, Field(ge=0, le=HIGHEST_SEED)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[TokenId, Annotated[float, Field(ge=-100, le=100)]] | None = None
    user: str | None = None

    @model_validator(mode="after")
    def _streamed(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options needs stream: true")
        return self

    @property
    def usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self) -> dict[str, Any]:
        """The options of the engine's request that both APIs spell alike."""
        return self.given(
            "temperature",
            "top_p",
            "max_tokens",
            "stop",
            "seed",
            "frequency_penalty",
            "presence_penalty",
            "logit_bias",
        )


Model = TypeVar("Model", bound=BaseModel)


def read(model: type[Model], body: bytes) -> Model:
    """`body` as `model`. Raises `RequestError` that names the field and, where it is unknown, the
    nearest known one."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _request_error(model, error) from None


def _request_error(model: type[BaseModel], error: ValidationError) -> RequestError:
    if error.error_count() > MAX_FAULTS:  # listing a million of them would stop everyone's answers
        return RequestError(f"{error.error_count()} fields are wrong", code="invalid_value")
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    kind, loc = problem["type"], problem["loc"]
    param = _path(loc) or None
    if kind == "json_invalid":
        return RequestError(f"the body is not JSON: {problem['msg']}", code="invalid_json")
    if kind == "extra_forbidden":
        hint = nearest(str(loc[-1])[:MAX_NAME], known_keys(model, loc[:-1]))
        message = f"unknown parameter {param or '(without a name)'}; {hint}"
        return RequestError(message, code="unknown_parameter", param=param)
    if kind == "missing":
        return RequestError(f"{param} is missing", code="missing_required_parameter", param=param)
    what = f"{param}: {problem['msg']}" if param else str(problem["msg"])
    return RequestError(what, code="invalid_value", param=param)


def _path(loc: tuple[int | str, ...]) -> str:
    """The field's place as OpenAI writes it, without the tags of unions."""
    parts = [p for p in loc if isinstance(p, int) or not p.startswith(":")]
    names = (f"[{p}]" if isinstance(p, int) else f".{p[:MAX_NAME]}" for p in parts)
    return "".join(names).lstrip(".")
