"""Keeps an engine running: watches its health, and restarts it with growing pauses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from residency.engines.base import Engine
from residency.engines.client import EngineClient
from residency.errors import EngineUnavailable, ResidencyError

State = Literal["stopped", "loading", "ready", "waiting", "failed"]

ALIVE_SECONDS = 0.2


class Restart(NamedTuple):
    """What follows a failure: how many came in a row, and the pause; None: give up."""

    failures: int
    pause: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RestartPolicy:
    """When to start an engine again; all times in seconds.

    The pause grows from `first` by `factor` to `cap`. An engine that ran for `settled` begins a
    new row of failures; after `limit` failures in a row nobody tries again.
    """

    first: float = 0.5
    factor: float = 2.0
    cap: float = 30.0
    settled: float = 60.0
    limit: int = 6

    def after(self, failures: int, lived: float) -> Restart:
        """What to do when an engine fails that had `failures` before it and ran for `lived`."""
        failures = 1 if lived >= self.settled else failures + 1
        if failures > self.limit:
            return Restart(failures, None)
        return Restart(failures, min(self.cap, self.first * self.factor ** (failures - 1)))


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthPolicy:
    """Ask every `every` seconds; `misses` answers in a row later than `limit` mean unwell.

    The limit is long because a loaded engine on busy cores was seen to take 4 s.
    """

    every: float = 5.0
    limit: float = 10.0
    misses: int = 3


class Supervisor:
    """One engine, its client, and the task that watches over them. Lives in one event loop.

    `restarts` counts since the first start; `words` say why it is not ready.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        timeout: float = 120.0,
        restart: RestartPolicy | None = None,
        health: HealthPolicy | None = None,
        on_change: Callable[[State, str], None] | None = None,
    ) -> None:
        self.engine = engine
        self.state: State = "stopped"
        self.words = "it was not started"
        self.restarts = 0
        self._timeout = timeout
        self._restart = restart or RestartPolicy()
        self._health = health or HealthPolicy()
        self._on_change = on_change
        self._client: EngineClient | None = None
        self._loading: asyncio.Future[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    def client(self) -> EngineClient:
        """The client of the running engine. Raises `EngineUnavailable` while there is none."""
        if self._client is None:
            raise EngineUnavailable(f"the engine is not ready: {self.words}")
        return self._client

    async def until_ready(self, seconds: float) -> None:
        """Wait until the engine answers, at most for `seconds`; it may just have crashed, and
        nobody seen it yet. Raises `EngineUnavailable` with the reason."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.state not in ("failed", "stopped"):
                    if self._client and await self._client.health():
                        return
                    await asyncio.sleep(ALIVE_SECONDS / 4)
        raise EngineUnavailable(f"the engine is not ready: {self.words or 'it does not answer'}")

    async def start(self) -> None:
        """Load the model, then watch. What prevents this first start is raised, not retried."""
        try:
            await self._load()
        except ResidencyError as error:
            self._change("failed", error.message)
            raise
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End the watch and the engine, even while it loads."""
        if self._watching:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        await self._drop_client()
        await asyncio.to_thread(self.engine.stop)
        if self._loading:
            # The thread that loads may have been about to start a process when we stopped it.
            await asyncio.wait([self._loading])
            await asyncio.to_thread(self.engine.stop)
        self._change("stopped", "it was stopped")

    async def _load(self) -> None:
        self._change("loading", "it is loading the model")
        self._loading = asyncio.ensure_future(asyncio.to_thread(self.engine.start))
        await asyncio.shield(self._loading)
        self._client = self.engine.client(self._timeout)
        self._change("ready", "")

    async def _watch(self) -> None:
        clock = asyncio.get_running_loop().time
        failures, running = 0, True
        while running:
            began = clock()
            words = await self._until_unwell()
            await self._drop_client()
            failures, running = await self._start_again(failures, clock() - began, words)

    async def _start_again(self, failures: int, lived: float, words: str) -> tuple[int, bool]:
        """Try until the engine runs (True) or the policy gives up; with the failures in a row."""
        while True:
            failures, pause = self._restart.after(failures, lived)
            if pause is None:
                self._change("failed", f"{words}; given up after {failures - 1} restarts")
                return failures, False
            self._change("waiting", f"{words}; it starts again in {pause:g} s")
            await asyncio.sleep(pause)
            self.restarts += 1
            try:
                await self._load()
                return failures, True
            except ResidencyError as error:
                words, lived = error.message, 0.0

    async def _until_unwell(self) -> str:
        """Watch until the engine ends or stops answering; what was seen, in words."""
        clock = asyncio.get_running_loop().time
        misses, looked = 0, clock()
        while self.engine.alive():
            await asyncio.sleep(ALIVE_SECONDS)
            if clock() - looked < self._health.every:
                continue
            misses = 0 if await self.client().health(self._health.limit) else misses + 1
            looked = clock()
            if misses >= self._health.misses:
                await asyncio.to_thread(self.engine.stop)
                return "the engine runs but no longer answers"
        return self.engine.last_words()

    async def _drop_client(self) -> None:
        client, self._client = self._client, None
        if client:
            await client.close()

    def _change(self, state: State, words: str) -> None:
        self.state, self.words = state, words
        if self._on_change:
            self._on_change(state, words)
