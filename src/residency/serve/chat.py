"""POST /v1/chat/completions: the one path that every request takes, a step a line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from residency.errors import EngineTimeout, ResidencyError
from residency.serve import answer, schema
from residency.serve.errors import RequestError, fault_of
from residency.serve.gateway import Gateway
from residency.serve.leaving import ClientLeft, while_wanted
from residency.serve.question import Question, compose
from residency.serve.reply import Reply

MAX_BODY_BYTES = 10_000_000


class ChatCompletions:
    """The endpoint, as an ASGI application: Starlette's responses can't end with their client."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._gateway.working():
            try:
                asked = schema.parse(await _read_body(Request(scope, receive)))
                question = compose(asked, self._gateway.release)
                headers = {"x-residency-system": "added"} if question.system_added else {}
                reply = Reply(send, headers)
                work = self._answer(asked, question, reply)
                await self._finish(work, reply, receive)
            except (ClientLeft, ClientDisconnect):
                return

    async def _finish(
        self, work: Coroutine[Any, Any, None], reply: Reply, receive: Receive
    ) -> None:
        """See the work through; once a stream is open, its failure is its last event."""
        try:
            await while_wanted(work, receive, self._gateway.closing)
        except ResidencyError as error:
            if not reply.started:
                raise
            await reply.break_off(fault_of(error))

    async def _answer(self, asked: schema.ChatRequest, question: Question, reply: Reply) -> None:
        seconds = self._gateway.timeout
        who = answer.identity(self._gateway.release)
        try:
            async with (
                asyncio.timeout(seconds),
                aclosing(self._gateway.client().chat_stream(question.body)) as chunks,
            ):
                if asked.stream:
                    usage = asked.stream_options is not None and asked.stream_options.include_usage
                    await _stream(chunks, answer.EventWriter(who, usage=usage), reply)
                else:
                    await reply.json(await answer.assemble(chunks, who))
        except TimeoutError:
            raise EngineTimeout(
                f"the answer was not complete after {seconds:g} s",
                hint="ask for fewer tokens, or raise timeout in section [serve]",
            ) from None


async def _stream(
    chunks: AsyncIterator[dict[str, Any]], writer: answer.EventWriter, reply: Reply
) -> None:
    """The head goes out with the first chunk, so that a refusal still has its own status."""
    async for chunk in chunks:
        if not reply.started:
            await reply.open_stream()
        await reply.event(writer.write(chunk))
    await reply.close_stream()


async def _read_body(request: Request) -> bytes:
    """The body. Raises `RequestError` (413) as soon as it is known to be too long."""
    declared = int(request.headers.get("content-length", 0))
    body = bytearray()
    async for part in request.stream():
        body += part
        if max(declared, len(body)) > MAX_BODY_BYTES:
            raise RequestError(
                f"the body is over {MAX_BODY_BYTES:,} bytes", status=413, code="request_too_large"
            )
    return bytes(body)
