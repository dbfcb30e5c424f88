"""A stand-in for an API that is paid for: a real process that speaks OpenAI's and sends bills.

    python -m tests.fakes.teacher [--price 1.0] [--delay 0.0] [--trouble]

prints its port. It answers with the last message in capitals, and a judge's task with a verdict:
wrong where the answer has WRONG in it. A prompt that has `unsure` in it gets another answer for
each seed, `forbidden` is refused with 400, `endless` runs into max_tokens. With `--trouble` the
first request of each prompt fails in turn: 429 with Retry-After, 500, silence, broken off in the
middle. `GET /fake/state` tells what was billed, how often it was asked, how many at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from aiohttp import web


class Teacher:
    def __init__(self, price: float, delay: float, *, trouble: bool) -> None:
        self.price, self.delay, self.trouble = price, delay, trouble
        self.billed = 0.0
        self.asked: dict[str, int] = {}
        self.at_once = self.most_at_once = 0
        self.refused = self.early = 0
        self.clear_at: dict[str, float] = {}

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/fake/state", self.state)
        return app

    async def state(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "billed": self.billed,
                "requests": sum(self.asked.values()),
                "prompts": len(self.asked),
                "most_at_once": self.most_at_once,
                "refused": self.refused,
                "early": self.early,
            }
        )

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self.answer(request, body)
        finally:
            self.at_once -= 1

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        prompt = body["messages"][-1]["content"]
        name = f"{prompt}#{body['seed']}"
        self.asked[name] = self.asked.get(name, 0) + 1
        now = asyncio.get_running_loop().time()
        self.early += now < self.clear_at.get(name, 0.0)
        trouble = list(self.asked).index(name) % 5 if self.trouble else 4
        if self.asked[name] == 1 and trouble == 0:
            self.clear_at[name] = now + 0.2
            return web.json_response(
                {"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0.2"}
            )
        if self.asked[name] == 1 and trouble == 1:
            return web.json_response({"error": {"message": "a fault"}}, status=500)
        if "forbidden" in prompt:
            self.refused += 1
            return web.json_response({"error": {"message": "not about that"}}, status=400)
        if self.asked[name] == 1 and trouble == 2:
            self.bill(body, body["max_tokens"])
            await asyncio.sleep(3600)
        await asyncio.sleep(self.delay)
        if self.asked[name] == 1 and trouble == 3:
            self.bill(body, body["max_tokens"])
            response = await begin(request)
            await send(response, {"choices": [{"index": 0, "delta": {"content": "Half "}}]})
            assert request.transport is not None
            request.transport.abort()
            return response
        return await self.speak(request, body, prompt)

    async def speak(
        self, request: web.Request, body: dict[str, Any], prompt: str
    ) -> web.StreamResponse:
        words = said(prompt, body["seed"]).split(" ")
        cut = "endless" in prompt
        words = (words * body["max_tokens"])[: body["max_tokens"]] if cut else words
        usage = self.bill(body, len(words))
        response = await begin(request)
        text = " ".join(words)
        await send(response, {"choices": [{"index": 0, "delta": {"content": text}}]})
        end = {"index": 0, "delta": {}, "finish_reason": "length" if cut else "stop"}
        await send(response, {"choices": [end]})
        await send(response, {"choices": [], "usage": usage})
        await response.write(b"data: [DONE]\n\n")
        return response

    def bill(self, body: dict[str, Any], answer: int) -> dict[str, int]:
        """A token is a word here; both kinds have the same price, for a million."""
        prompt = sum(len(m["content"].split()) for m in body["messages"])
        self.billed += (prompt + answer) * self.price / 1e6
        return {"prompt_tokens": prompt, "completion_tokens": answer}


def said(prompt: str, seed: int) -> str:
    if "verdict" in prompt:
        return f"I read it. verdict: {'wrong' if 'WRONG' in prompt else 'right'}"
    return f"{prompt.upper()} {seed}" if "unsure" in prompt else prompt.upper()


async def begin(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


async def send(response: web.StreamResponse, chunk: dict[str, Any]) -> None:
    await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")


async def serve(teacher: Teacher) -> None:
    runner = web.AppRunner(teacher.app(), handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--price", type=float, default=1.0)
    flags.add_argument("--delay", type=float, default=0.0)
    flags.add_argument("--trouble", action="store_true")
    given = flags.parse_args()
    asyncio.run(serve(Teacher(given.price, given.delay, trouble=given.trouble)))


if __name__ == "__main__":
    main()
