"""One HTTP answer under way: whole as JSON, or bit by bit as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import Send

from residency.serve import answer
from residency.serve.errors import Fault

# A client that does not read cannot be told more; its connection is closed then.
_LAST_WORD_SECONDS = 1.0


def fault_response(fault: Fault) -> JSONResponse:
    """A failure as a whole answer."""
    return JSONResponse(fault.body(), status_code=fault.status, headers=fault.headers())


class Reply:
    """Sends one answer; `started` once its status has gone out and cannot be changed."""

    def __init__(self, send: Send, headers: Mapping[str, str]) -> None:
        self._send = send
        self._headers = headers
        self.started = False

    async def json(self, body: Mapping[str, Any]) -> None:
        """Send the whole answer."""
        response = JSONResponse(body, headers=self._headers)
        self.started = True
        await self._send(
            {"type": "http.response.start", "status": 200, "headers": response.raw_headers}
        )
        await self._body(bytes(response.body), more=False)

    async def open_stream(self) -> None:
        """Send the head of a stream of events."""
        headers = MutableHeaders(self._headers)
        headers["content-type"] = "text/event-stream; charset=utf-8"
        headers["cache-control"] = "no-cache"
        self.started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": headers.raw})

    async def event(self, event: bytes) -> None:
        """Send one event of an open stream."""
        if event:
            await self._body(event, more=True)

    async def close_stream(self) -> None:
        """End a stream whose answer is complete."""
        await self._body(answer.DONE, more=False)

    async def break_off(self, fault: Fault) -> None:
        """End a stream with an error event and without its `[DONE]`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await self._body(answer.event(fault.body()), more=False)

    async def _body(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})
