"""The bodies of requests, read within bounds of length, time and memory."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from residency.serve.errors import RequestError, stalled

BODY_SECONDS = 30.0
"""How long a client may take to send its request."""
SMALL = 64_000
"""Bytes of a body that are always read, however many large ones are on their way."""
AT_ONCE = 20
"""So many bodies of the greatest length may be on their way, beside small ones: a thousand clients
that stall before the last byte of theirs would take the memory."""


class Bodies:
    """Reads bodies of at most `limit` bytes. Belongs to one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._room = AT_ONCE * limit

    async def read(self, request: Request) -> bytes:
        """Raises `RequestError`: 413 as soon as a body is known to be too long, 408 where it comes
        too slowly, 503 where too much is on its way."""
        body = bytearray()
        try:
            self._check_length(_declared(request))
            async with asyncio.timeout(BODY_SECONDS):
                async for part in request.stream():
                    body += part
                    self._room -= len(part)
                    self._check_length(len(body))
                    if self._room < 0 and len(body) > SMALL:
                        raise stalled("too many large bodies are on their way", "overloaded")
        except TimeoutError:
            raise RequestError(
                f"the body was not here after {BODY_SECONDS:g} s",
                status=408,
                code="request_timeout",
            ) from None
        finally:
            self._room += len(body)
        return bytes(body)

    def _check_length(self, length: int) -> None:
        if length > self._limit:
            raise RequestError(
                f"the body is over {self._limit:,} bytes", status=413, code="request_too_large"
            )


def _declared(request: Request) -> int:
    try:
        return int(request.headers.get("content-length", 0))
    except ValueError:
        raise RequestError("content-length is not a number", code="invalid_header") from None
