"""The gateway on a real socket in front of the fake engine."""

from __future__ import annotations

import asyncio
import json
import queue
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn

from residency import releases
from residency.config import ServedModel, ServeSettings, TrafficSettings
from residency.engines.client import EngineClient
from residency.serve.app import create_app
from residency.serve.connection import Connection
from residency.serve.fleet import Fleet
from residency.serve.gateway import Gateway
from residency.serve.run import kept, listen
from residency.store import Store
from residency.types import Release
from tests.fakes.engine import FakeEngine
from tests.serve import processes
from tests.serve.releases import release


class Running:
    """An engine that runs already; starting and stopping it is another's affair."""

    pid = 0

    def __init__(self, url: str, key: str) -> None:
        self.url, self.key = url, key

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def client(self, timeout: float) -> EngineClient:
        return EngineClient(self.url, self.key, timeout)

    def alive(self) -> bool:
        return True

    def memory(self) -> int:
        return 0

    peak_memory = memory

    def last_words(self) -> str:
        return ""

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *exc: object) -> None: ...


@dataclass(frozen=True)
class Served:
    """A gateway that listens on `port`, and an official client of it."""

    port: int
    gateway: Gateway
    client: openai.OpenAI
    model: str
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, text: str = "one two three", **more: Any) -> Any:
        messages: Any = [{"role": "user", "content": text}]
        return self.client.chat.completions.create(
            **{"model": self.model, "messages": messages, **more}
        )


@pytest.fixture(scope="session")
def fake() -> Iterator[FakeEngine]:
    with FakeEngine() as running:
        yield running


@pytest.fixture
def state(fake: FakeEngine) -> Callable[[], dict[str, Any]]:
    """What the fake engine has seen so far."""

    def look() -> dict[str, Any]:
        request = urllib.request.Request(
            fake.url + "/fake/state", headers={"Authorization": f"Bearer {fake.key}"}
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            found: dict[str, Any] = json.load(response)
            return found

    return look


@pytest.fixture
def serving(fake: FakeEngine, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts a gateway whose release is named like the behaviour that the fake is to show.

    `settings` are of section [serve]; `models` served beside or in place of that one; `changed`
    fields of the release.
    """
    with ExitStack() as stack:

        def start(
            behaviour: str = "echo",
            *,
            url: str = "",
            settings: ServeSettings | None = None,
            sealed: bool = False,
            **changed: Any,
        ) -> Served:
            folder = Path(tempfile.mkdtemp(dir=tmp_path))
            wanted = release(model=behaviour, **changed)
            where = settings or ServeSettings(timeout=60.0)
            running = Running(url or fake.url, fake.key)
            return stack.enter_context(_served(folder, wanted, where, running, sealed))

        yield start


@contextmanager
def _served(
    folder: Path, wanted: Release, settings: ServeSettings, running: Running, sealed: bool
) -> Iterator[Served]:
    store = Store(folder)
    releases.write(store, wanted)
    releases.promote(store, wanted.name)
    models = settings.models or {wanted.model: ServedModel()}
    sock = listen("127.0.0.1", 0)
    stopping = threading.Event()
    ready: queue.Queue[Gateway | BaseException] = queue.Queue()

    async def live() -> None:
        with kept(store.root, settings, models, TrafficSettings()) as books:
            fleet = Fleet(store, models, settings, lambda *_: running, slots=4)
            gateway = Gateway(settings, models, fleet, books, sealed=sealed)
            config = uvicorn.Config(
                create_app(gateway),
                http=Connection,
                lifespan="off",
                log_config=None,
                timeout_graceful_shutdown=1,
            )
            server = uvicorn.Server(config)
            http = asyncio.create_task(server.serve(sockets=[sock]))
            try:
                await fleet.start()
                ready.put(gateway)
                await asyncio.to_thread(stopping.wait)
            except BaseException as error:
                ready.put(error)
                raise
            finally:
                server.should_exit = True
                await http
                await fleet.stop()

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    gateway = ready.get()
    if isinstance(gateway, BaseException):
        thread.join()
        raise gateway
    port = sock.getsockname()[1]
    client = openai.OpenAI(
        base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=0, timeout=60
    )
    with client:
        yield Served(
            port=port, gateway=gateway, client=client, model=next(iter(models)), folder=folder
        )
    stopping.set()
    thread.join()


@pytest.fixture
def start(base_gguf: Path, tmp_path: Path) -> Iterator[Callable[..., processes.Process]]:
    """Starts `serve` with a real engine on a free port; killed, its engine too, after the test."""
    with ExitStack() as stack:

        def run(model: Path | None = None, digest: str = "", **serve: Any) -> processes.Process:
            folder, file = tmp_path / "desk", model or base_gguf
            return stack.enter_context(processes.serving(folder, file, digest, **serve))

        yield run
