"""One HTTP answer under way: whole as JSON, or bit by bit as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import Message, Send

from residency.serve.answer import dumps
from residency.serve.apis.dialect import Writer
from residency.serve.errors import Fault

# A client that does not read cannot be told more; its connection is closed then.
_LAST_WORD_SECONDS = 1.0


class Ascii(JSONResponse):
    """JSON in ASCII, in which half a character that a model wrote can be told."""

    def render(self, content: Any) -> bytes:
        return dumps(content).encode()


def fault_response(fault: Fault) -> JSONResponse:
    """A failure as a whole answer."""
    return Ascii(fault.body(), status_code=fault.status, headers=fault.headers())


class Reply:
    """Sends one answer; `started` once its status has gone out and cannot be changed; `writer` is
    that of an open stream. `headers` may be added to until then.

    A client that does not read is cut off by its `connection.Connection`.
    """

    def __init__(self, send: Send, headers: Mapping[str, str]) -> None:
        self._send = send
        self.headers = dict(headers)
        self.started = False
        self.writer: Writer | None = None

    async def json(self, body: Mapping[str, Any], status: int = 200) -> None:
        """Send the whole answer."""
        response = Ascii(body, headers=self.headers)
        self.started = True
        await self._send(
            {"type": "http.response.start", "status": status, "headers": response.raw_headers}
        )
        await self._body(bytes(response.body), more=False)

    async def open_stream(self, writer: Writer) -> None:
        """Send the head of a stream of events."""
        headers = MutableHeaders(self.headers)
        headers["content-type"] = "text/event-stream; charset=utf-8"
        headers["cache-control"] = "no-cache"
        self.started, self.writer = True, writer
        await self._send({"type": "http.response.start", "status": 200, "headers": headers.raw})
        await self.event(writer.first())

    async def event(self, event: bytes) -> None:
        """Send one event of an open stream."""
        if event:
            await self._body(event, more=True)

    async def close_stream(self, last: bytes) -> None:
        """End a stream whose answer is complete."""
        await self._body(last, more=False)

    async def break_off(self, last: bytes) -> None:
        """End a stream that failed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await self._body(last, more=False)

    async def _body(self, body: bytes, *, more: bool) -> None:
        message: Message = {"type": "http.response.body", "body": body, "more_body": more}
        await self._send(message)
