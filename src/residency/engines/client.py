"""How everything here talks to an engine: the gate, the fingerprint and the gateway alike.

All that goes wrong between us and an engine becomes an `EngineError` here; what is different about
an API that is not ours stands in `engines.remote`.
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

from residency.egress import guarded_connector
from residency.errors import (
    EngineError,
    EngineLost,
    EngineRejected,
    EngineTimeout,
    EngineUnavailable,
)
from residency.types import Message, Tools

CONNECT_SECONDS = 5.0
HEALTH_SECONDS = 10.0
_CUT_OFF = "went away in the middle of an answer"
# `json.loads` looks for the encoding of bytes first: a fifth of its time on a chunk.
_decode = json.JSONDecoder().decode


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatAnswer:
    """A whole answer: its text, and its calls of tools as OpenAI's API writes them. `ttft` (to the
    first token of either) and `seconds` count from the request."""

    text: str
    calls: tuple[dict[str, Any], ...]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    ttft: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What an engine has at work: `busy` of its `slots`, and the share (0..1) of its key-value
    cache that holds tokens. None is unknown."""

    slots: int | None
    busy: int
    cache: float | None


class ChatClient:
    """Asks what speaks OpenAI's chat API at `base` (the part of the URL before
    `/chat/completions`). Belongs to the event loop that it is first used in; close it there.

    `timeout` is in seconds, for one whole request, the stream of its answer included; `who` is its
    name in errors.
    """

    def __init__(self, base: str, key: str, timeout: float, who: str = "the engine") -> None:
        self._base = base
        self._who = who
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS)
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; requests at work fail with `EngineUnavailable`."""
        self._closed = True
        for session in self._sessions.values():
            await session.close()

    def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """The chunks of the answer to `body`, which has `messages`, or a `prompt` to go on with."""
        return self.text_stream(body) if "prompt" in body else self.chat_stream(body)

    async def text_stream(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """The chunks of `/completions`, in the form of `/chat/completions`."""
        async with contextlib.aclosing(self._chunks("/completions", body)) as chunks:
            async for chunk in chunks:
                choices = [
                    {"delta": {"content": one.pop("text", "")}, **one} for one in chunk["choices"]
                ]
                yield {**chunk, "choices": choices}

    def chat_stream(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """The chunks of `/chat/completions`, the last of them with the usage.

        Always asks for a stream: a client that leaves a plain request does not stop llama.cpp.
        Close the iterator (`aclose`) to leave early; the engine then frees its slot.
        """
        return self._chunks("/chat/completions", body)

    async def embeddings(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request of `/embeddings`."""
        with engine_errors(self._who):
            response = await self._post(f"{self._base}/embeddings", body)
            async with response:
                return dict(await response.json())

    async def _chunks(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        whole = {**body, "stream": True, "stream_options": {"include_usage": True}}
        done = False
        with engine_errors(self._who):
            response = await self._post(f"{self._base}{path}", whole)
            try:
                async for events in _events(response.content):
                    for data in events:
                        if data == b"[DONE]":
                            done = True
                        else:
                            yield self._chunk(data)
            finally:
                response.close()
        if not done:
            raise EngineLost(f"{self._who} {_CUT_OFF}")

    async def chat(self, body: Mapping[str, Any]) -> ChatAnswer:
        """The whole answer to a chat request."""
        async with contextlib.aclosing(self.chat_stream(body)) as chunks:
            return await whole(chunks)

    async def _post(self, url: str, body: Mapping[str, Any]) -> aiohttp.ClientResponse:
        """Send by a connection that was kept and, where that broke before anything came back, once
        more by a new one: under several users llama.cpp closes kept ones right after an answer,
        without saying so, also two in a row."""
        data = json.dumps(body, ensure_ascii=False).encode()
        try:
            response = await self._send(url, data, new=False)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            response = await self._send(url, data, new=True)
        await self._raise_for_status(response)
        return response

    async def _send(self, url: str, data: bytes, *, new: bool) -> aiohttp.ClientResponse:
        headers = {"Content-Type": "application/json"}
        return await self._open(new=new).post(url, data=data, headers=headers)

    def _open(self, *, new: bool = True) -> aiohttp.ClientSession:
        """The session whose connections are `new` for each request, or that which keeps them."""
        if self._closed:
            raise EngineUnavailable(f"{self._who} went away")
        if new not in self._sessions:
            self._sessions[new] = aiohttp.ClientSession(
                connector=guarded_connector(force_close=new),
                headers=self._headers,
                timeout=self._timeout,
            )
        return self._sessions[new]

    def _chunk(self, data: bytes) -> dict[str, Any]:
        chunk: dict[str, Any] = _decode(data.decode(errors="surrogatepass"))
        if error := chunk.get("error"):
            code = error.get("code") if isinstance(error, dict) else None
            status = code if isinstance(code, int) else HTTPStatus.INTERNAL_SERVER_ERROR
            raise self._failure(status, self._words(status, chunk), {})
        if told := chunk.pop("__verbose", None):
            # llama.cpp's, which is much longer, in the place and under the name that vLLM has.
            for one in chunk["choices"]:
                one["stop_reason"] = told.get("stopping_word") or None
        return chunk

    async def _raise_for_status(self, response: aiohttp.ClientResponse) -> None:
        if response.status == HTTPStatus.OK:
            return
        try:
            answer = await response.json(content_type=None)
        except (json.JSONDecodeError, UnicodeDecodeError):
            answer = None
        response.close()
        words = self._words(response.status, answer)
        raise self._failure(response.status, words, response.headers)

    def _words(self, status: int, answer: Any) -> str:
        """What `answer` says went wrong; llama.cpp and OpenAI put it in `error.message`."""
        error = answer.get("error") if isinstance(answer, dict) else None
        words = error.get("message") if isinstance(error, dict) else error
        return str(words or f"{self._who} answered with status {status}")

    def _failure(self, status: int, words: str, _: Mapping[str, str]) -> EngineError:
        """The error for an answer with `status` and its headers."""
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            return EngineUnavailable(words)
        return EngineRejected(words, status=status)


async def whole(chunks: AsyncIterator[dict[str, Any]]) -> ChatAnswer:
    """The answer that `chunks` of a chat make up; its times count from now."""
    begin = time.perf_counter()
    ttft, finish = 0.0, ""
    parts: list[str] = []
    calls: dict[int, dict[str, Any]] = {}
    usage: Mapping[str, int] = {}
    async for chunk in chunks:
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            finish = choice.get("finish_reason") or finish
            text, called = (choice["delta"].get(name) for name in ("content", "tool_calls"))
            if text or called:
                ttft = ttft or time.perf_counter() - begin
                parts.append(text or "")
            for call in called or ():
                add_call(calls, call)
    seconds = time.perf_counter() - begin
    return ChatAnswer(
        text="".join(parts),
        calls=tuple(call for _, call in sorted(calls.items())),
        finish_reason=finish,
        prompt_tokens=usage.get("prompt_tokens", 0),
        completion_tokens=usage.get("completion_tokens", 0),
        ttft=ttft or seconds,
        seconds=seconds,
    )


def chat_of(messages: Sequence[Message], tools: Tools) -> dict[str, Any]:
    """A conversation as the API's request has it: without tools there is no such key."""
    body: dict[str, Any] = {"messages": [message.to_dict() for message in messages]}
    return {**body, "tools": list(tools)} if tools else body


def add_call(calls: dict[int, dict[str, Any]], call: Mapping[str, Any]) -> None:
    """Add a piece of a call to `calls`, which are by their index: id and name come first, then the
    arguments bit by bit."""
    new = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
    whole = calls.setdefault(call["index"], new)
    whole["id"] = call.get("id") or whole["id"]
    function = call.get("function") or {}
    for name in ("name", "arguments"):
        whole["function"][name] += function.get(name) or ""


class EngineClient(ChatClient):
    """Asks one engine of ours, at `url` without a path."""

    def __init__(self, url: str, key: str, timeout: float = 120.0) -> None:
        super().__init__(f"{url}/v1", key, timeout)
        self._url = url

    async def apply_template(self, messages: Sequence[Message], tools: Tools = ()) -> str:
        """The prompt that the engine makes of `messages`, generation prompt included."""
        return str((await self._ask("/apply-template", chat_of(messages, tools)))["prompt"])

    async def count(self, body: Mapping[str, Any]) -> int:
        """The tokens of the prompt that llama.cpp makes of a chat request, its tools included."""
        return int((await self._ask("/v1/chat/completions/input_tokens", body))["input_tokens"])

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        """Token ids of `text`: special tokens are recognised, and added only if asked for."""
        body = {"content": text, "add_special": add_special, "parse_special": True}
        return list((await self._ask("/tokenize", body))["tokens"])

    async def top_logprobs(self, ids: Sequence[int], k: int) -> list[tuple[int, float]]:
        """The `k` likeliest tokens after `ids`, with the natural logarithms of their probabilities.

        They are of the model's raw distribution: llama.cpp computes them from the logits, before
        temperature, bias and samplers, unless `post_sampling_probs` is asked for. Raises
        `EngineError` for a broken model, which has none.
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
        if any(entry["logprob"] is None for entry in top):
            raise EngineError("the model gives no probabilities: its logits are NaN or infinite")
        return [(int(entry["id"]), float(entry["logprob"])) for entry in top]

    async def props(self) -> dict[str, Any]:
        """What the engine says of itself: `chat_template`, `total_slots`, `model_path` and more."""
        with engine_errors():
            async with self._open().get(self._url + "/props") as response:
                await self._raise_for_status(response)
                return dict(await response.json())

    async def health(self, seconds: float = HEALTH_SECONDS) -> bool:
        """Whether the engine says within `seconds` that it is well; raises no `EngineError`."""
        limit = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._open().get(self._url + "/health", timeout=limit) as response:
                return response.status == HTTPStatus.OK
        except (aiohttp.ClientError, TimeoutError, EngineUnavailable):
            return False

    async def load(self) -> Load | None:
        """What is at work in it, from llama.cpp's `GET /slots`; None where the engine does not say.

        Raises `EngineError`.
        """
        try:
            slots = json.loads(await self._told("/slots"))
        except ValueError:
            return None
        if not isinstance(slots, list) or not slots:
            return None
        held = sum(one.get("n_prompt_tokens", 0) for one in slots)
        room = sum(one["n_ctx"] for one in slots)
        busy = sum(one["is_processing"] for one in slots)
        return Load(slots=len(slots), busy=busy, cache=held / room if room else None)

    async def _told(self, path: str) -> str:
        """What `GET path` answers; empty where the engine has no such page."""
        limit = aiohttp.ClientTimeout(total=HEALTH_SECONDS)
        with engine_errors():
            async with self._open(new=False).get(self._url + path, timeout=limit) as response:
                if response.status in (HTTPStatus.NOT_FOUND, HTTPStatus.NOT_IMPLEMENTED):
                    return ""
                await self._raise_for_status(response)
                return await response.text()

    async def _ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        with engine_errors():
            response = await self._post(self._url + path, body)
            async with response:
                return dict(await response.json())


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[list[bytes]]:
    """The data of the server-sent events that came at once; llama.cpp and OpenAI write each on one
    line."""
    rest = b""
    async for piece in content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        yield [line[5:].strip() for line in lines if line.startswith(b"data:")]


@contextlib.contextmanager
def engine_errors(who: str = "the engine") -> Iterator[None]:
    """Turn aiohttp's errors into ours; `who` is named in them."""
    try:
        yield
    except TimeoutError as error:
        raise EngineTimeout(f"{who} did not answer in time") from error
    except aiohttp.ClientConnectorError as error:
        raise EngineUnavailable(f"{who} cannot be reached: {error.os_error}") from error
    except aiohttp.ClientPayloadError as error:
        raise EngineLost(f"{who} {_CUT_OFF}") from error
    except (aiohttp.ClientError, json.JSONDecodeError) as error:
        raise EngineLost(f"{who} went away: {error}") from error
