"""The gateway on a real socket in front of the fake engine."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import openai
import pytest
import uvicorn

from residency.engines.client import EngineClient
from residency.serve.app import create_app
from residency.serve.gateway import Gateway
from residency.serve.run import listen
from tests.fakes.engine import FakeEngine
from tests.serve.releases import release


class Running:
    """An engine that runs already; its client is made in the gateway's loop."""

    def __init__(self, url: str, key: str) -> None:
        self._client = EngineClient(url, key, 60.0)

    def client(self) -> EngineClient:
        return self._client


@dataclass(frozen=True)
class Served:
    """A gateway that listens on `port`, and an official client of it."""

    port: int
    gateway: Gateway
    client: openai.OpenAI
    model: str

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
def serving(fake: FakeEngine) -> Iterator[Callable[..., Served]]:
    """Starts a gateway whose release is named like the behaviour that the fake is to show."""
    with ExitStack() as stack:

        def start(
            behaviour: str = "echo", *, timeout: float = 60.0, url: str = "", **changed: Any
        ) -> Served:
            running = Running(url or fake.url, fake.key)
            return stack.enter_context(_served(behaviour, running, timeout, changed))

        yield start


@contextmanager
def _served(
    behaviour: str, running: Running, timeout: float, changed: dict[str, Any]
) -> Iterator[Served]:
    sock = listen("127.0.0.1", 0)
    gateway = Gateway(release(model=behaviour, **changed), running, timeout=timeout)
    config = uvicorn.Config(
        create_app(gateway), lifespan="off", log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)

    async def live() -> None:
        await server.serve(sockets=[sock])
        await running.client().close()

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    port = sock.getsockname()[1]
    client = openai.OpenAI(
        base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=0, timeout=60
    )
    with client:
        yield Served(port=port, gateway=gateway, client=client, model=behaviour)
    server.should_exit = True
    thread.join()
