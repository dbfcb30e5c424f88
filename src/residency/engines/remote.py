"""An API elsewhere that speaks OpenAI's, behind the same face as an engine of ours."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from residency.config import ServedModel
from residency.engines.client import ChatClient
from residency.errors import EngineError, EngineRejected, EngineUnavailable, SettingsError
from residency.types import Message

MILLION = 1_000_000
FRAME = 16
"""What a template may put around a message, and before them all, in tokens."""
OPENAI_FIELDS = frozenset(
    {
        "stream",
        "stream_options",
        "messages",
        "prompt",
        "input",
        "encoding_format",
        "temperature",
        "top_p",
        "n",
        "stop",
        "seed",
        "max_tokens",
        "max_completion_tokens",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "response_format",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning_effort",
        "verbosity",
        "prediction",
        "modalities",
        "audio",
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "service_tier",
        "store",
        "metadata",
    }
)
"""The fields of chat completions, completions and embeddings in OpenAI's API reference.
Others are llama.cpp's or ours, and an API may refuse them."""


class RemoteClient(ChatClient):
    """Asks the API of `served`; `timeout` is in seconds, for one whole answer.

    `served.url` is what OpenAI's clients call the base URL; `/v1` may be left out where it has no
    other path. Raises `SettingsError` when the variable that should hold the key is not set.
    """

    def __init__(self, served: ServedModel, timeout: float = 120.0) -> None:
        parts = urlsplit(served.url)
        base = served.url.rstrip("/") if parts.path.strip("/") else f"{served.url.rstrip('/')}/v1"
        self._model = served.model
        self._variable = served.key_variable
        super().__init__(base, _key(served), timeout, who=f"the API at {parts.hostname}")

    async def _post(self, url: str, body: Mapping[str, Any]) -> aiohttp.ClientResponse:
        return await super()._post(url, self._known(body))

    def _known(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of `body` that the API knows, for the model under its name there."""
        whole = {name: value for name, value in body.items() if name in OPENAI_FIELDS}
        return {**whole, "model": self._model or body.get("model")}

    def _failure(self, status: int, words: str, headers: Mapping[str, str]) -> EngineError:
        """What another model may do better is `EngineUnavailable`. The API's words about our key
        are not passed on: they quote it. Its own id of the request is, for its support."""
        asked = f" ({identity})" if (identity := headers.get("x-request-id")) else ""
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            hint = f"see {self._variable or 'serve.models: key_variable'}"
            return EngineRejected(f"{self._who} refuses our key{asked}", status=status, hint=hint)
        message = f"{self._who}: {words}{asked}"
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            wait = headers.get("retry-after")
            hint = f"it has room in {wait} s" if wait else ""
            return EngineUnavailable(message, hint=hint, retry_after=_seconds(wait))
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return EngineUnavailable(message, retry_after=_seconds(headers.get("retry-after")))
        return EngineRejected(message, status=status)


def most_tokens(messages: Sequence[Message]) -> int:
    """Tokens that a prompt of `messages` cannot exceed: a token stands for one byte at least."""
    return sum(len(one.content.encode()) + FRAME for one in messages) + FRAME


def price(model: ServedModel, prompt: int, answer: int) -> float:
    """The money for `prompt` and `answer` tokens."""
    return (prompt * model.price_in + answer * model.price_out) / MILLION


def _seconds(wait: str | None) -> float | None:
    """The seconds of a Retry-After, which may also be a date (RFC 9110, 10.2.3); None otherwise."""
    if wait is None:
        return None
    with contextlib.suppress(ValueError):
        return max(0.0, float(wait))
    with contextlib.suppress(ValueError):
        return max(0.0, parsedate_to_datetime(wait).timestamp() - time.time())
    return None


def _key(served: ServedModel) -> str:
    if not served.key_variable:
        return ""
    if key := os.environ.get(served.key_variable):
        return key
    raise SettingsError(
        f"{served.key_variable}, which is to hold the key of {served.url}, is not set",
        hint=f"export {served.key_variable}=...",
    )
