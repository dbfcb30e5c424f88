"""How everything here talks to an engine: the gate, the fingerprint and the gateway alike.

All that goes wrong between us and an engine becomes an `EngineError` in this module, and only here.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self

import aiohttp

from residency.errors import EngineRejected, EngineTimeout, EngineUnavailable
from residency.types import Message

CONNECT_SECONDS = 5.0
HEALTH_SECONDS = 10.0
_CUT_OFF = "the engine went away in the middle of an answer"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatAnswer:
    """A whole answer. `ttft` (to the first token of text) and `seconds` count from the request."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    ttft: float
    seconds: float


class EngineClient:
    """Asks one engine. Belongs to the event loop that it is first used in; close it there.

    `timeout` is in seconds, for one whole request, the stream of its answer included.
    """

    def __init__(self, url: str, key: str, timeout: float = 120.0) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; requests at work fail with `EngineUnavailable`."""
        self._closed = True
        if self._session:
            await self._session.close()

    async def chat_stream(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """The chunks of `/v1/chat/completions`, the last of them with the usage.

        Always asks for a stream: a client that leaves a plain request does not stop llama.cpp.
        Close the iterator (`aclose`) to leave early; the engine then frees its slot.
        """
        whole = {**body, "stream": True, "stream_options": {"include_usage": True}}
        done = False
        with engine_errors():
            response = await self._post("/v1/chat/completions", whole)
            try:
                async for data in _events(response.content):
                    if data == b"[DONE]":
                        done = True
                    else:
                        yield _chunk(data)
            finally:
                response.close()
        if not done:
            raise EngineUnavailable(_CUT_OFF)

    async def chat(self, body: Mapping[str, Any]) -> ChatAnswer:
        """The whole answer to a chat request."""
        begin = time.perf_counter()
        ttft, finish = 0.0, ""
        parts: list[str] = []
        usage: Mapping[str, int] = {}
        async with contextlib.aclosing(self.chat_stream(body)) as chunks:
            async for chunk in chunks:
                usage = chunk.get("usage") or usage
                for choice in chunk["choices"]:
                    finish = choice.get("finish_reason") or finish
                    if text := choice["delta"].get("content"):
                        ttft = ttft or time.perf_counter() - begin
                        parts.append(text)
        seconds = time.perf_counter() - begin
        return ChatAnswer(
            text="".join(parts),
            finish_reason=finish,
            prompt_tokens=usage.get("prompt_tokens", 0),
            completion_tokens=usage.get("completion_tokens", 0),
            ttft=ttft or seconds,
            seconds=seconds,
        )

    async def apply_template(self, messages: Sequence[Message]) -> str:
        """The prompt that the engine makes of `messages`, generation prompt included."""
        body = {"messages": [message.to_dict() for message in messages]}
        return str((await self._ask("/apply-template", body))["prompt"])

    async def tokenize(self, text: str) -> list[int]:
        """Token ids of `text`: special tokens are recognised, none is added."""
        body = {"content": text, "add_special": False, "parse_special": True}
        return list((await self._ask("/tokenize", body))["tokens"])

    async def top_logprobs(self, ids: Sequence[int], k: int) -> list[tuple[int, float]]:
        """The `k` likeliest tokens after `ids`, with the natural logarithms of their probabilities.

        They are of the model's raw distribution: llama.cpp computes them from the logits, before
        temperature, bias and samplers, unless `post_sampling_probs` is asked for.
        """
        # The bias makes it say "a": where it says part of a character, or ends its turn, it gives
        # no probabilities.
        body = {
            "prompt": list(ids),
            "n_predict": 1,
            "n_probs": k,
            "temperature": 0.0,
            "logit_bias": [["a", 1000.0]],
        }
        answer = await self._ask("/completion", body)
        top = answer["completion_probabilities"][0]["top_logprobs"]
        return [(int(entry["id"]), float(entry["logprob"])) for entry in top]

    async def props(self) -> dict[str, Any]:
        """What the engine says of itself: `chat_template`, `total_slots`, `model_path` and more."""
        with engine_errors():
            async with self._open().get(self._url + "/props") as response:
                await _raise_for_status(response)
                return dict(await response.json())

    async def health(self, seconds: float = HEALTH_SECONDS) -> bool:
        """Whether the engine says within `seconds` that it is well; raises no `EngineError`."""
        limit = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._open().get(self._url + "/health", timeout=limit) as response:
                return response.status == HTTPStatus.OK
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        with engine_errors():
            response = await self._post(path, body)
            async with response:
                return dict(await response.json())

    async def _post(self, path: str, body: Mapping[str, Any]) -> aiohttp.ClientResponse:
        """Send once, or twice when the connection broke before anything came back."""
        data = json.dumps(body, ensure_ascii=False).encode()
        try:
            response = await self._send(path, data)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            response = await self._send(path, data)
        await _raise_for_status(response)
        return response

    async def _send(self, path: str, data: bytes) -> aiohttp.ClientResponse:
        headers = {"Content-Type": "application/json"}
        return await self._open().post(self._url + path, data=data, headers=headers)

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise EngineUnavailable("the engine went away")
        if self._session is None:
            # Under several users llama.cpp closes connections right after an answer, without saying
            # so: kept ones then fail, two in a row were seen (bench/gateway.py). A new one costs
            # half a millisecond.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                headers=self._headers,
                timeout=self._timeout,
            )
        return self._session


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The data of each server-sent event; llama.cpp and OpenAI write it on one line."""
    rest = b""
    async for piece in content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()


def _chunk(data: bytes) -> dict[str, Any]:
    chunk: dict[str, Any] = json.loads(data)
    if error := chunk.get("error"):
        raise _rejected(int(error.get("code") or HTTPStatus.INTERNAL_SERVER_ERROR), chunk)
    return chunk


@contextlib.contextmanager
def engine_errors() -> Iterator[None]:
    """Turn aiohttp's errors into ours."""
    try:
        yield
    except TimeoutError as error:
        raise EngineTimeout("the engine did not answer in time") from error
    except aiohttp.ClientConnectorError as error:
        raise EngineUnavailable(f"the engine cannot be reached: {error.os_error}") from error
    except aiohttp.ClientPayloadError as error:
        raise EngineUnavailable(_CUT_OFF) from error
    except (aiohttp.ClientError, json.JSONDecodeError) as error:
        raise EngineUnavailable(f"the engine went away: {error}") from error


async def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    if response.status == HTTPStatus.OK:
        return
    try:
        answer = await response.json(content_type=None)
    except (json.JSONDecodeError, UnicodeDecodeError):
        answer = None
    response.close()
    raise _rejected(response.status, answer)


def _rejected(status: int, answer: Any) -> EngineRejected | EngineUnavailable:
    """The error for an answer with `status`; llama.cpp and OpenAI put words in `error.message`."""
    error = answer.get("error") if isinstance(answer, dict) else None
    words = error.get("message") if isinstance(error, dict) else error
    message = str(words or f"the engine answered with status {status}")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return EngineUnavailable(message)
    return EngineRejected(message, status=status)
