"""The gateway as a process: its socket, its engine, and how it ends.

The first SIGTERM or SIGINT drains: work that was accepted is finished, new work is refused with a
503, and `serve` returns. The second breaks off what is still at work.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import uvicorn

from residency.config import EngineSettings, ServeSettings
from residency.engines.base import EngineSpec
from residency.engines.llama_cpp import LlamaCpp
from residency.engines.supervisor import State, Supervisor
from residency.errors import InputError
from residency.progress import say
from residency.serve.app import create_app
from residency.serve.gateway import Gateway
from residency.types import Release

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(
    release: Release,
    model_file: Path,
    engine: EngineSettings,
    settings: ServeSettings,
    *,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve `release` until a signal ends it; call from the main thread.

    `ready` is called with the endpoint's URL once the engine answers; `/health` answers before.
    Raises `InputError` where it cannot listen, and what prevents the engine's first start.
    """
    spec = EngineSpec(
        model=model_file,
        alias=release.model,
        context=release.context,
        slots=engine.slots,
        threads=engine.threads,
        server=engine.server,
        sha256=release.build.digest,
    )
    with listen(settings.host, settings.port) as sock:
        asyncio.run(_run(release, spec, settings, sock, ready))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on `host` and `port` (0: any that is free). Raises `InputError`."""
    address = _loopback(host)
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        # Two sockets may be bound to one port as long as neither listens: so not later.
        sock.listen(socket.SOMAXCONN)
    except OSError as error:
        sock.close()
        hint = "choose another port in section [serve]; 0 takes any that is free"
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"{host}:{port}: the port is in use", hint=hint) from None
        raise InputError(f"{host}:{port}: {error.strerror}", hint=hint) from None
    return sock


def _loopback(host: str) -> str:
    """The address of `host`. Raises `InputError` unless it is this machine's own."""
    address = "127.0.0.1" if host == "localhost" else host
    with contextlib.suppress(ValueError):
        if ip_address(address).is_loopback:
            return address
    raise InputError(
        f"serve.host: {host} is not a loopback address, and the endpoint has no keys and no TLS",
        hint='use host = "127.0.0.1"',
    )


async def _run(
    release: Release,
    spec: EngineSpec,
    settings: ServeSettings,
    sock: socket.socket,
    ready: Callable[[str], None] | None,
) -> None:
    supervisor = Supervisor(LlamaCpp(spec), timeout=settings.timeout, on_change=_tell)
    gateway = Gateway(release, supervisor, timeout=settings.timeout)
    server = _Server(gateway, drain=settings.drain)
    http = asyncio.create_task(server.serve(sockets=[sock]))
    loading = asyncio.create_task(supervisor.start())
    try:
        await asyncio.wait({http, loading}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            url = _url(sock)
            say(f"serving {release.model} on {url}")
            if ready:
                ready(url)
    finally:
        server.should_exit = server.should_exit or _failed(loading)
        await http
        loading.cancel()
        await supervisor.stop()


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and task.exception() is not None


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _tell(state: State, words: str) -> None:
    if state == "waiting":
        say(f"engine: {words}")


class _Server(uvicorn.Server):
    """uvicorn, with an end of our own: it would close its listener at once, and so refuse new
    clients without a reason."""

    def __init__(self, gateway: Gateway, *, drain: float) -> None:
        config = uvicorn.Config(
            create_app(gateway),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self._gateway = gateway
        self._drain = drain
        self._draining: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """In place of uvicorn's, which raises the signal again at the end."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        if self._draining:
            self._gateway.closing.set()
        else:
            self._draining = asyncio.create_task(self._leave())

    async def _leave(self) -> None:
        say("shutting down: work in progress is finished; again to break it off")
        await self._gateway.drain(self._drain)
        self.should_exit = True
