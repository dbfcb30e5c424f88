"""What the engine is asked: the client's request, opened and bounded as the release says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from residency.serve.errors import RequestError
from residency.serve.schema import ChatMessage, ChatRequest
from residency.types import Message, Release, with_system

# The gate measures greedy answers, so that is what a client gets who asks for nothing else.
TEMPERATURE = 0.0
SEED = 0

_PASSED_ON = (
    "top_p",
    "stop",
    "frequency_penalty",
    "presence_penalty",
    "logprobs",
    "top_logprobs",
    "response_format",
    "tools",
    "tool_choice",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """`body` is the engine's; `system_added` says that the release's system message was put in."""

    body: dict[str, Any]
    system_added: bool


def compose(asked: ChatRequest, release: Release) -> Question:
    """The engine's request for `asked`. Raises `RequestError` when it is for another model."""
    check_model(asked.model, release)
    given = tuple(_message(one) for one in asked.messages)
    opened = with_system(given, release.system)
    body = asked.model_dump(include=set(_PASSED_ON), exclude_none=True)
    limit = asked.max_completion_tokens or asked.max_tokens or release.max_tokens
    body |= {
        "model": release.model,
        "messages": [one.to_dict() for one in opened],
        "temperature": TEMPERATURE if asked.temperature is None else asked.temperature,
        "seed": SEED if asked.seed is None else asked.seed,
        "max_tokens": limit,
    }
    return Question(body=body, system_added=len(opened) > len(given))


def check_model(name: str, release: Release) -> None:
    """Raises `RequestError` (404) unless `name` is the model that is served."""
    if name != release.model:
        raise RequestError(
            f"the model {name!r} is not served here; known: {release.model}",
            status=404,
            code="model_not_found",
            param="model",
        )


def _message(one: ChatMessage) -> Message:
    """A developer message is what OpenAI renamed the system message to; templates know `system`."""
    extra = one.model_dump(include={"name", "tool_calls", "tool_call_id"}, exclude_none=True)
    role = "system" if one.role == "developer" else one.role
    return Message(role=role, content=one.content or "", extra=extra)
