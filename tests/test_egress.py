"""A confined request opens no connection that leaves, whatever its destination is called."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from residency.egress import CONFINED, guarded_connector
from residency.errors import EgressRefused

Asking = Callable[[str], Awaitable[str]]


def with_server(host: str, play: Callable[[Asking, int], Awaitable[None]]) -> list[str]:
    """Run `play` with a way to ask and the port of a server on `host`; gives whom it answered."""
    served: list[str] = []

    async def hello(request: web.Request) -> web.Response:
        assert request.transport is not None
        served.append(str(request.transport.get_extra_info("peername")))
        return web.Response(text="hello")

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/", hello)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, host, 0).start()
        async with aiohttp.ClientSession(connector=guarded_connector()) as session:

            async def ask(url: str) -> str:
                async with session.get(url) as response:
                    return await response.text()

            await play(ask, runner.addresses[0][1])
        await runner.cleanup()

    asyncio.run(run())
    return served


async def confined(asking: Awaitable[str]) -> str:
    """As a request of its own would ask, beside others that aren't confined."""

    async def alone() -> str:
        CONFINED.set(True)
        return await asking

    return await asyncio.create_task(alone())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_confined_request_reaches_loopback(host: str) -> None:
    async def play(ask: Asking, port: int) -> None:
        assert await confined(ask(f"http://{host}:{port}/")) == "hello"

    with_server("127.0.0.1", play)


def test_it_reaches_no_other_address_and_others_do(outside: str) -> None:
    async def play(ask: Asking, port: int) -> None:
        url = f"http://{outside}:{port}/"
        with pytest.raises(EgressRefused, match=outside):
            await confined(ask(url))
        assert await ask(url) == "hello"

    assert len(with_server(outside, play)) == 1


def test_a_connection_that_others_left_open_is_closed_to_it(outside: str) -> None:
    async def play(ask: Asking, port: int) -> None:
        url = f"http://{outside}:{port}/"
        assert await ask(url) == "hello"
        with pytest.raises(EgressRefused):
            await confined(ask(url))
        assert await ask(url) == "hello"

    served = with_server(outside, play)
    assert len(served) == 2
    assert served[0] == served[1]  # the others still share it


def test_a_name_is_what_it_resolves_to(outside: str) -> None:
    name = "0x" + socket.inet_aton(outside).hex()  # the C library finds an address, and asks nobody

    async def play(ask: Asking, port: int) -> None:
        with pytest.raises(EgressRefused, match=rf"{name} \({outside}\)"):
            await confined(ask(f"http://{name}:{port}/"))
        assert await ask(f"http://{name}:{port}/") == "hello"

    assert len(with_server(outside, play)) == 1


def test_a_name_that_resolves_to_loopback_is_local() -> None:
    async def play(ask: Asking, port: int) -> None:
        assert await confined(ask(f"http://0x7f000001:{port}/")) == "hello"

    with_server("127.0.0.1", play)
