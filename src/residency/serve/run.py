"""The gateway as a process: its socket, its engine, and how it ends.

The first SIGTERM or SIGINT drains: work that was accepted is finished, new work is refused with a
503, and `serve` returns. The second breaks off what is still at work.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import resource
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from residency import audit
from residency.config import ServedModel, ServeSettings, Settings, TrafficSettings
from residency.errors import InputError
from residency.progress import say
from residency.serve import exposure, keys, looking, routing
from residency.serve.app import create_app
from residency.serve.connection import Connection
from residency.serve.feedback_book import FeedbackBook
from residency.serve.fleet import Fleet
from residency.serve.gateway import Books, Gateway
from residency.serve.keys import KeyRing
from residency.serve.launch import launcher
from residency.serve.ledger import FILE_NAME, Ledger
from residency.store import Store
from residency.traffic import store as traffic_store
from residency.traffic.store import TrafficStore
from residency.traffic.writer import Recorder
from residency.watch import notify
from residency.watch.notify import Notifier
from residency.watch.observer import Observer

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(
    workspace: Path,
    settings: Settings,
    *,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve what section [serve] of `settings` names until a signal ends it; call from the main
    thread.

    `ready` is called with the endpoint's URL once every engine answers; `/health` answers before.
    Raises `InputError` where it may not or cannot listen, and what prevents a first start.
    """
    store = Store(workspace)
    models = settings.serve.models or {settings.name: ServedModel()}
    routing.check(models)
    exposure.check_tls(settings.serve)
    if missing := exposure.check(settings.serve):
        audit.append(workspace, "endpoint exposed", audit.operator(), {"missing": missing})
    notify.check(settings.watch, sealed=settings.sealed)
    _allow_files()
    with (
        listen(settings.serve.host, settings.serve.port) as sock,
        kept(store.root, settings.serve, models, settings.traffic) as books,
        observed(settings, models) as observer,
    ):
        launch = launcher(store, settings.engine)
        fleet = Fleet(store, models, settings.serve, launch, slots=settings.engine.slots)
        gateway = Gateway(
            settings.serve, models, fleet, books, sealed=settings.sealed, observer=observer
        )
        notifier = Notifier(settings.watch, workspace, settings.name)
        watch = functools.partial(looking.watch, gateway, workspace, notifier)
        uvloop.run(_run(gateway, watch, sock, ready))


@contextlib.contextmanager
def kept(
    folder: Path,
    settings: ServeSettings,
    models: Mapping[str, ServedModel],
    traffic: TrafficSettings,
) -> Iterator[Books]:
    """The books that the settings ask for, in the workspace's `folder`; written up and closed at
    the end."""
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        ring = KeyRing(folder / keys.FILE_NAME) if settings.keys else None
        ledger = recorder = feedback = None
        if ring or any(one.budget is not None for one in models.values()):
            ledger = Ledger(folder / FILE_NAME)
            stack.callback(ledger.close)
        if settings.record != "none":
            where = traffic_store.place(folder, traffic)
            exchanges = TrafficStore(where)
            stack.callback(exchanges.close)
            recorder = Recorder(exchanges, mode=settings.record, retention_days=settings.retention)
            stack.callback(recorder.close)
            masked = settings.record == "masked"
            feedback = FeedbackBook(TrafficStore(where), recorder, masked=masked)
            stack.callback(feedback.close)
        yield Books(ring=ring, ledger=ledger, recorder=recorder, feedback=feedback)


@contextlib.contextmanager
def observed(settings: Settings, models: Mapping[str, ServedModel]) -> Iterator[Observer]:
    """What counts the requests, and exports them where section [watch] says so. Raises
    `MissingError` where it cannot."""
    observer = Observer(models, settings.watch)
    if not settings.watch.otlp:
        yield observer
        return
    from residency.watch.otlp import Exporter

    exporter = Exporter(settings.watch.otlp, settings.name, observer.name)
    observer.exports.append(exporter)
    try:
        yield observer
    finally:
        exporter.close()


def _allow_files() -> None:
    """Every connection is an open file, and a process starts with fewer than it may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on `host` and `port` (0: any that is free). Raises `InputError`."""
    address = exposure.address(host)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it on, the body of
    # an answer waits 40 ms for the client to acknowledge the head.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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


async def _run(
    gateway: Gateway,
    watch: Callable[[], Coroutine[Any, Any, None]],
    sock: socket.socket,
    ready: Callable[[str], None] | None,
) -> None:
    server = _Server(gateway)
    http = asyncio.create_task(server.serve(sockets=[sock]))
    loading = asyncio.create_task(gateway.fleet.start())
    watching = asyncio.create_task(watch())
    watching.add_done_callback(_tell_failure)
    try:
        await asyncio.wait({http, loading}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            url = _url(sock, secure=bool(gateway.settings.tls_certificate))
            say(f"serving {', '.join(gateway.models)} on {url}")
            if ready:
                ready(url)
    finally:
        server.should_exit = server.should_exit or _failed(loading)
        await http
        loading.cancel()
        watching.cancel()
        await asyncio.gather(loading, watching, return_exceptions=True)
        await gateway.fleet.stop()


def _tell_failure(task: asyncio.Task[None]) -> None:
    """A gateway goes on without its watch, but not without a word."""
    if _failed(task):
        say(f"nothing is watched any more: {task.exception()!r}")


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None


def _url(sock: socket.socket, *, secure: bool) -> str:
    host, port = sock.getsockname()[:2]
    scheme = "https" if secure else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn, with an end of our own: it would close its listener at once, and so refuse new
    clients without a reason."""

    def __init__(self, gateway: Gateway) -> None:
        settings = gateway.settings
        config = uvicorn.Config(
            create_app(gateway),
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
            ssl_certfile=settings.tls_certificate or None,
            ssl_keyfile=settings.tls_key or None,
        )
        super().__init__(config)
        self._gateway = gateway
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
        await self._gateway.drain(self._gateway.settings.drain)
        self.should_exit = True
