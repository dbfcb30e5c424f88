"""A stand-in for an engine: a real process that speaks llama.cpp's side of OpenAI's chat API.

    python -m tests.fakes.openai_engine [--host 127.0.0.1] [--port 0] [--key KEY] [--behaviour NAME]

prints the port that it listens on. What it does with a request is named by the request's `model`,
or else by `--behaviour`; see `BEHAVIOURS`. `GET /fake/state` tells what it was asked and how many
requests are at work, were left by their client, and over how many connections they came.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

FIRST_QUESTION = "Are you there?"
"""What the gateway asks an engine before it relies on it. Whoever is asked for by behaviour is
there, whatever it does with the questions that follow."""
STATUSES = {
    "400": "request (9000 tokens) exceeds the available context size (2048 tokens)",
    "401": "Invalid API Key",
    "429": "too many requests",
    "500": "internal error",
    "503": "Loading model",
}
BEHAVIOURS = {
    "echo": "answer with the last message, a word a chunk (what any other name does too)",
    "slow": "the same, 50 ms a word",
    "crawl": "the same, 500 ms a word",
    "long": "a thousand words, 10 ms each",
    "fast": "a thousand words at once",
    "hang": "never answer",
    "hang-mid-stream": "two words, then silence",
    "drop": "break the connection before anything is sent",
    "drop-once": "the same at the first request, then echo",
    "die-mid-stream": "two words, then break the connection",
    "end-early": "two words, then a clean end without [DONE]",
    "error-mid-stream": "two words, then an error event as llama.cpp sends it",
    "exit": "two words, then the whole process dies",
    "second-thought": "what follows || in the last message if asked anew, else what is before it",
    "call": "call the first tool with the last message as its `text`, in pieces",
    "surrogate": "half of a character, as a broken model may write it",
    "not-json": "status 200 and a page of HTML",
    **{status: f"refuse with status {status}" for status in STATUSES},
}


class Fake:
    """Keeps count, so that tests can see what reached the engine."""

    def __init__(self, behaviour: str, key: str) -> None:
        self.behaviour = behaviour
        self.key = key
        self.asked: list[dict[str, Any]] = []
        self.at_work = 0
        self.left = 0
        self.connections: set[int] = set()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._check_key])
        app.router.add_get("/health", self._health)
        app.router.add_get("/props", self._props)
        app.router.add_get("/fake/state", self._state)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_post("/tokenize", self._tokenize)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_post("/v1/chat/completions/input_tokens", self._count)
        return app

    @web.middleware
    async def _check_key(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        wanted = f"Bearer {self.key}"
        if (
            self.key
            and request.path != "/health"
            and request.headers.get("Authorization") != wanted
        ):
            return refusal("401")
        return await handler(request)

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _props(self, _: web.Request) -> web.Response:
        return web.json_response({"total_slots": 4, "model_path": "fake.gguf", "chat_template": ""})

    async def _state(self, _: web.Request) -> web.Response:
        counts = {"at_work": self.at_work, "left": self.left, "connections": len(self.connections)}
        return web.json_response({"asked": self.asked, **counts})

    async def _count(self, request: web.Request) -> web.Response:
        return web.json_response({"input_tokens": usage(await request.json(), 0)["prompt_tokens"]})

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        return web.json_response({"tokens": [1] * len(body["content"].split())})

    async def _embeddings(self, request: web.Request) -> web.Response:
        """A vector says how long its text is."""
        body = await request.json()
        self.asked.append(body)
        data = [{"index": i, "embedding": [len(t), 1.0]} for i, t in enumerate(body["input"])]
        count = sum(len(text.split()) for text in body["input"])
        return web.json_response({"data": data, "usage": {"prompt_tokens": count}})

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        """As chat, in the form of completions."""
        body = await request.json()
        said = [{"role": "user", "content": body["prompt"]}]
        self.asked.append(body)
        response = await start_stream(request)
        count = 0
        async for word in words("echo", {"messages": said}):
            choice = {"index": 0, "text": word, "finish_reason": None}
            await send(response, {"choices": [choice]})
            count += 1
        last = {"index": 0, "text": "", "finish_reason": "stop"}
        await send(response, {"choices": [last], "usage": usage({"messages": said}, count)})
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body["messages"][-1]["content"] == FIRST_QUESTION and body["model"] in BEHAVIOURS:
            return await self._stream("echo", request, body)
        self.asked.append(body)
        if request.transport is not None:
            self.connections.add(request.transport.get_extra_info("peername")[1])
        behaviour = body.get("model", "")
        if behaviour not in BEHAVIOURS:
            behaviour = self.behaviour
        self.at_work += 1
        try:
            return await self._behave(behaviour, request, body)
        except (asyncio.CancelledError, ConnectionResetError):
            self.left += 1
            raise
        finally:
            self.at_work -= 1

    async def _behave(
        self, behaviour: str, request: web.Request, body: dict[str, Any]
    ) -> web.StreamResponse:
        if behaviour in STATUSES:
            return refusal(behaviour)
        if behaviour == "not-json":
            return web.Response(text="<html>a proxy's page</html>", content_type="text/html")
        if behaviour == "hang":
            await asyncio.sleep(3600)
        first = len(self.asked) == 1
        if behaviour == "drop" or (behaviour == "drop-once" and first):
            return hang_up(request)
        if not body.get("stream"):
            return await plain(behaviour, body)
        return await self._stream(behaviour, request, body)

    async def _stream(
        self, behaviour: str, request: web.Request, body: dict[str, Any]
    ) -> web.StreamResponse:
        response = await start_stream(request)
        await send(response, delta(body, {"role": "assistant", "content": None}))
        count = 0
        if behaviour == "call":
            await send_call(response, body)
            return response
        async for word in words(behaviour, body):
            await send(response, delta(body, {"content": word}))
            count += 1
            if count == 2 and (ended := await misbehave(behaviour, request, response)):
                return ended
        await send(response, delta(body, {}, finish_reason="stop"))
        if (body.get("stream_options") or {}).get("include_usage"):
            await send(response, {**delta(body, {}), "choices": [], "usage": usage(body, count)})
        await response.write(b"data: [DONE]\n\n")
        return response


async def start_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


async def misbehave(
    behaviour: str, request: web.Request, response: web.StreamResponse
) -> web.StreamResponse | None:
    """What goes wrong after two words; None when nothing does."""
    if behaviour == "hang-mid-stream":
        await asyncio.sleep(3600)
    if behaviour == "die-mid-stream":
        return hang_up(request)
    if behaviour == "exit":
        os._exit(9)
    if behaviour == "end-early":
        return response
    if behaviour == "error-mid-stream":
        error = {"code": 500, "message": "decode failed", "type": "server_error"}
        await send(response, {"error": error})
        return response
    return None


async def words(behaviour: str, body: dict[str, Any]) -> AsyncIterator[str]:
    if behaviour in ("long", "fast"):
        for number in range(1000):
            if behaviour == "long":
                await asyncio.sleep(0.01)
            yield f"{number} "
        return
    text = body["messages"][-1]["content"]
    if behaviour == "second-thought":
        anew = body.get("temperature") or "dry_multiplier" in body
        text = text.partition("||")[2 if anew else 0]
    if behaviour == "surrogate":
        text = "half \ud83d"
    for number, word in enumerate(text.split(" ")):
        if pause := {"slow": 0.05, "crawl": 0.5}.get(behaviour):
            await asyncio.sleep(pause)
        yield word if number == 0 else f" {word}"


async def send_call(response: web.StreamResponse, body: dict[str, Any]) -> None:
    name = body["tools"][0]["function"]["name"]
    text = json.dumps({"text": body["messages"][-1]["content"]})
    for piece in (
        {"id": "c1", "type": "function", "function": {"name": name, "arguments": ""}},
        *({"function": {"arguments": part}} for part in (text[:5], text[5:])),
    ):
        await send(response, delta(body, {"tool_calls": [{"index": 0, **piece}]}))
    await send(response, delta(body, {}, finish_reason="tool_calls"))
    await response.write(b"data: [DONE]\n\n")


async def plain(behaviour: str, body: dict[str, Any]) -> web.Response:
    parts = [word async for word in words(behaviour, body)]
    message = {"role": "assistant", "content": "".join(parts)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {**delta(body, {}), "object": "chat.completion", "choices": [choice]}
    return web.json_response({**answer, "usage": usage(body, len(parts))})


def delta(
    body: dict[str, Any], change: dict[str, Any], finish_reason: str | None = None
) -> dict[str, Any]:
    choice = {"index": 0, "delta": change, "finish_reason": finish_reason}
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": body.get("model", "fake"),
        "choices": [choice],
    }


def usage(body: dict[str, Any], count: int) -> dict[str, int]:
    asked = sum(len(str(m["content"]).split()) for m in body["messages"])
    return {"prompt_tokens": asked, "completion_tokens": count, "total_tokens": asked + count}


def refusal(status: str) -> web.Response:
    kind = "invalid_request_error" if status.startswith("4") else "server_error"
    error = {"code": int(status), "message": STATUSES[status], "type": kind}
    return web.json_response({"error": error}, status=int(status))


def hang_up(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def send(response: web.StreamResponse, chunk: dict[str, Any]) -> None:
    await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")


async def serve(host: str, port: int, behaviour: str, key: str) -> None:
    # Cancelling the handler of a client that left is how it shows that an engine would stop.
    runner = web.AppRunner(Fake(behaviour, key).app(), handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--key", default="")
    arguments.add_argument("--behaviour", choices=BEHAVIOURS, default="echo")
    given = arguments.parse_args()
    asyncio.run(serve(given.host, given.port, given.behaviour, given.key))


if __name__ == "__main__":
    main()
