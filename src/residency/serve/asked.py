"""One request, as every step of the path sees it, whatever API it came by.

Frozen: a step that changes a request makes a new one (`dataclasses.replace`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from residency.config import ContextPolicy
from residency.types import Message

Api = Literal["chat", "completions", "responses", "messages", "embeddings", "feedback"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What a client may ask of us beyond its API; None leaves it to key, model and settings.

    `timeout` for the whole answer and `ttft_timeout` for its first token, in seconds.
    """

    timeout: float | None = None
    ttft_timeout: float | None = None
    deterministic: bool = False
    context: ContextPolicy | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """`options` are fields of the engine's request under OpenAI's names (temperature, max_tokens,
    stop, tools, ...). `prompt` is that of `/v1/completions`, which has no `messages`. `n` is the
    number of choices; `usage` says that a stream is to end with the token counts. `subject` is the
    person whom the call is about, `tags` the client's own notes, and `echo` what the answer repeats
    of the request."""

    api: Api
    model: str
    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    n: int = 1
    stream: bool = False
    usage: bool = False
    subject: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    echo: Mapping[str, Any] = field(default_factory=dict)
    wishes: Wishes = Wishes()


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who asks, and what their key allows; None is without limit.

    `models` are names of models; `requests` and `tokens` are for a minute; `budget` is money for a
    calendar month (UTC), in the currency of the settings' prices; `never_leave` keeps what they
    send on this machine.
    """

    name: str
    models: frozenset[str] | None = None
    requests: int | None = None
    tokens: int | None = None
    budget: float | None = None
    timeout: float | None = None
    never_leave: bool = False


ANYONE = Caller(name="anyone")
"""The caller where the endpoint asks for no keys."""
