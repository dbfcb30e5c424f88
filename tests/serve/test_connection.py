"""Clients that stall are cut off; clients that are slow, or send no HTTP, get what they can."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from residency.serve.connection import Connection
from residency.serve.run import listen

Scenario = Callable[[int], Awaitable[None]]
GET = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"
LARGE = 20_000_000


class Quick(Connection):
    head_seconds = 0.3
    read_seconds = 0.3


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Says `hello`; on `/large` much more than a socket holds, and on `/slow` after a second."""
    if scope["path"] == "/slow":
        await asyncio.sleep(1.0)
    body = b"x" * LARGE if scope["path"] == "/large" else b"hello"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[tuple[int, uvicorn.Server]]:
    sock = listen("127.0.0.1", 0)
    config = uvicorn.Config(app, http=Quick, lifespan="off", log_config=None, ws="none")
    server = uvicorn.Server(config)
    http = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield sock.getsockname()[1], server
    finally:
        server.should_exit = server.force_exit = True
        await http


async def received(*pieces: bytes, rest: float = 0.0) -> bytes:
    """All that comes back until the server ends the connection; `rest` seconds between pieces."""
    async with listening() as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(rest)
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


def ask(*pieces: bytes, rest: float = 0.0) -> bytes:
    """As `received`; the limit only bounds a test that fails."""
    return asyncio.run(asyncio.wait_for(received(*pieces, rest=rest), 30))


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: here\r\n"])
def test_without_a_whole_head_it_ends(sent: bytes) -> None:
    assert ask(sent) == b""


def test_drops_of_a_head_do_not_keep_it() -> None:
    assert ask(*[bytes([byte]) for byte in b"GET / HTTP/1.1\r\n"], rest=0.05) == b""


def test_half_a_second_head_does_not_keep_it() -> None:
    assert ask(GET, b"GET /", rest=0.1).endswith(b"hello")


def test_a_body_that_is_not_read_does_not_keep_it() -> None:
    head = b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 9\r\n\r\n"
    assert ask(head, b"x", rest=0.1).endswith(b"hello")


def test_work_may_take_longer_than_a_head() -> None:
    slow = GET.replace(b"/ ", b"/slow ", 1)
    assert ask(slow + GET).count(b"hello") == 2


CHUNKED = b" HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n"


def test_what_is_no_http_is_refused() -> None:
    assert ask(b"POST /slow" + CHUNKED + b"no number\r\n").startswith(b"HTTP/1.1 400")
    assert ask(b"GET\x00 /\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_what_is_no_http_after_the_answer_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    assert ask(b"POST /" + CHUNKED, b"no number\r\n", rest=0.1).endswith(b"hello")
    assert not [one for one in caplog.records if one.name == "asyncio" and one.levelname == "ERROR"]


def test_too_long_a_head_is_refused() -> None:
    lines = b"".join(b"x-%d: %s\r\n" % (n, b"y" * 1000) for n in range(100))
    assert ask(GET[:-2] + lines).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("closing", [b"", b"connection: close\r\n"])
def test_who_reads_nothing_is_cut_off(closing: bytes) -> None:
    async def run() -> None:
        async with listening() as (port, server):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.sendall(GET.replace(b"/ ", b"/large ", 1)[:-2] + closing + b"\r\n")
            while not server.server_state.total_requests:
                await asyncio.sleep(0.01)
            while server.server_state.connections:
                await asyncio.sleep(0.01)
            sock.close()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_who_reads_slowly_gets_it_all() -> None:
    async def run() -> None:
        async with listening() as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET.replace(b"/ ", b"/large ", 1))
            await reader.readuntil(b"\r\n\r\n")
            left = LARGE
            while left:
                read = len(await reader.read(1_000_000))
                assert read
                left -= read
                await asyncio.sleep(0.01)
            writer.close()

    asyncio.run(asyncio.wait_for(run(), 60))
