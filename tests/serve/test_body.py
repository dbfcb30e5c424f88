"""Bodies are read within bounds of length, time and memory."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from residency.serve.body import AT_ONCE, SMALL, Bodies
from residency.serve.errors import RequestError

LIMIT = 10 * SMALL


def request(*parts: bytes, length: str = "", ends: bool = True) -> Request:
    """A request whose body comes in `parts`; without an end the last is waited for."""
    messages = [{"type": "http.request", "body": one, "more_body": True} for one in parts]
    if ends:
        messages[-1]["more_body"] = False

    async def receive() -> Message:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    headers = [(b"content-length", length.encode())] if length else []
    return Request({"type": "http", "headers": headers}, receive)


def test_a_body_is_read_whole() -> None:
    assert asyncio.run(Bodies(LIMIT).read(request(b"ab", b"", b"c"))) == b"abc"


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        (request(b"", length=str(LIMIT + 1), ends=False), 413, "request_too_large"),
        (request(b"x" * LIMIT, b"x", ends=False), 413, "request_too_large"),
        (request(b"", length="many"), 400, "invalid_header"),
    ],
)
def test_what_cannot_be_read_is_refused_at_once(asked: Request, status: int, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        asyncio.run(Bodies(LIMIT).read(asked))
    assert (caught.value.status, caught.value.code) == (status, code)


def test_large_bodies_that_stall_leave_room_for_small_ones() -> None:
    async def run() -> None:
        bodies = Bodies(LIMIT)
        stalled = [
            asyncio.create_task(bodies.read(request(b"x" * LIMIT, ends=False)))
            for _ in range(AT_ONCE)
        ]
        await asyncio.sleep(0)
        assert await bodies.read(request(b"x" * SMALL)) == b"x" * SMALL
        with pytest.raises(RequestError) as caught:
            await bodies.read(request(b"x" * SMALL, b"x"))
        assert (caught.value.status, caught.value.code) == (503, "overloaded")
        for one in stalled:
            one.cancel()
        await asyncio.gather(*stalled, return_exceptions=True)
        assert len(await bodies.read(request(b"x" * LIMIT))) == LIMIT

    asyncio.run(run())
