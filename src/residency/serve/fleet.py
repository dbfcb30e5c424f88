"""The engines and APIs behind the endpoint, by the names of the served models.

One loop keeps them: it follows the workspace's current release and the engines' memory, one step
after the other, so that no two swaps meet. A swap starts the new engine beside the old one, and the
old one ends when its last request has.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

from residency import releases
from residency.config import ServedModel, ServeSettings
from residency.engines.client import ChatClient
from residency.engines.guarantees import GUARANTEES
from residency.engines.remote import RemoteClient
from residency.engines.supervisor import State, Supervisor
from residency.errors import EngineUnavailable, ResidencyError
from residency.progress import say
from residency.serve.launch import Launch, engine_of
from residency.serve.station import Deployment, Station
from residency.serve.watchdog import Memory
from residency.store import Store
from residency.types import Release

LOOK_SECONDS = 1.0
RECOVERY_SECONDS = 30.0
GRACE_SECONDS = 5.0
"""By so much an engine's client outlasts the deadline of a request, which gives what there is."""
MEGABYTE = 1_000_000


class Refusal(NamedTuple):
    """Why the release of that name was not taken up."""

    release: str
    words: str


class Fleet:
    """Belongs to one event loop. `launch` makes the engine of a release (see `launch.launcher`),
    which works on `slots` requests at a time."""

    def __init__(
        self,
        store: Store,
        models: Mapping[str, ServedModel],
        settings: ServeSettings,
        launch: Launch,
        *,
        slots: int,
    ) -> None:
        self._store = store
        self._models = {name: one for name, one in models.items() if not one.url}
        self._settings = settings
        self._launch = launch
        self._slots = slots
        self._remote = {name: one for name, one in models.items() if one.url}
        self._clients: dict[str, ChatClient] = {}
        self._deployed: dict[str, Deployment] = {}
        self._refused: dict[str, Refusal] = {}
        self._retiring: dict[asyncio.Task[None], Deployment] = {}
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Have every model answer, then keep them. Raises what prevents it; `stop` after it."""
        for name, served in self._remote.items():
            self._clients[name] = RemoteClient(served, self._timeout(served))
        for name, served in self._models.items():
            self._deployed[name] = await self._deploy(name, self._wanted(served))
        self._keeping = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """End all engines, also those whose requests have not ended."""
        tasks = [*self._retiring, *([self._keeping] if self._keeping else [])]
        for task in tasks:
            task.cancel()
        running = [*self._retiring.values(), *self._deployed.values()]
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(one.stop() for one in running))
        for client in self._clients.values():
            await client.close()

    @contextlib.asynccontextmanager
    async def lease(self, model: str, *, deterministic: bool = False) -> AsyncIterator[Station]:
        """What answers for `model` now; the request counts as its own until it is done.

        Raises `EngineUnavailable` with the reason.
        """
        if model in self._clients:
            served = self._remote[model]
            yield Station(client=self._clients[model], build=served.model or model)
            return
        async with self._deployment(model).use(deterministic) as station:
            yield station

    def release(self, model: str) -> Release | None:
        """The release that serves `model`; None for an API, or before it is loaded."""
        deployed = self._deployed.get(model)
        return deployed.release if deployed else None

    def deployed(self) -> dict[str, Deployment]:
        """The engines of ours, by the models that they answer for."""
        return dict(self._deployed)

    def slots(self, model: str) -> int:
        """How many requests the engine of `model` works on at a time; 0 for an API."""
        return self._slots if model in self._models else 0

    def down(self) -> dict[str, str]:
        """The models that cannot be asked now, with the reason."""
        loading = dict.fromkeys(self._models, "it is being loaded")
        known = {name: one.supervisor.words for name, one in self._deployed.items()}
        return {name: words for name, words in (loading | known).items() if words}

    async def unwell(self) -> dict[str, str]:
        """As `down`, and with the models whose engines do not answer when asked."""
        down = self.down()
        for name, one in self._deployed.items():
            if name not in down and not await one.supervisor.client().health():
                down[name] = "its engine does not answer; it is being watched"
        return down

    def refused(self) -> dict[str, str]:
        """Why a model is still served by an older release than the current one."""
        return {name: one.words for name, one in self._refused.items()}

    async def recovered(self, model: str, seconds: float = RECOVERY_SECONDS) -> None:
        """Wait until the engine of `model` answers again, after it failed.

        Raises `EngineUnavailable` with the reason when it does not within `seconds`.
        """
        await self._deployment(model).supervisor.until_ready(seconds)

    async def swap(self, model: str, release: Release) -> None:
        """Have `release` answer for `model`, without a request that fails.

        Raises what keeps the new engine from answering; the old one then serves on.
        """
        new = await self._deploy(model, release)
        old, self._deployed[model] = self._deployed[model], new
        # Its requests end by their own deadlines, and each asks twice at most.
        task = asyncio.create_task(old.retire(2 * self._timeout(self._models[model])))
        self._retiring[task] = old
        task.add_done_callback(self._retiring.pop)

    def _deployment(self, model: str) -> Deployment:
        if model not in self._deployed:
            raise EngineUnavailable(f"{model} is not ready: it is being loaded")
        return self._deployed[model]

    def _wanted(self, served: ServedModel) -> Release:
        if served.release:
            return releases.read(self._store, served.release)
        return releases.current(self._store)

    def _timeout(self, served: ServedModel) -> float:
        whole = self._settings.timeout
        return min(whole, served.timeout or whole) + GRACE_SECONDS

    async def _deploy(self, name: str, release: Release) -> Deployment:
        served = self._models[name]

        def supervise(slots: int) -> Supervisor:
            engine = self._launch(served, release, slots)
            return Supervisor(engine, timeout=self._timeout(served), on_change=tell)

        def tell(state: State, words: str) -> None:
            if self._deployed.get(name) is deployed and state in ("waiting", "failed"):
                say(f"{name}: {words}")

        apart = GUARANTEES[engine_of(served, release)].alone and self._slots > 1
        quiet = supervise(1) if apart else None
        deployed = Deployment(served, release, supervise(self._slots), quiet)
        await deployed.begin()
        return deployed

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for name, served in self._models.items():
                if not served.release:
                    await self._follow(name)
                await self._look_after(name)

    async def _follow(self, name: str) -> None:
        """Take up the workspace's current release; one that could not be is not tried again."""
        current, old = releases.current_name(self._store), self._deployed[name].release.name
        known = self._refused.get(name)
        if known and known.release == current:
            return
        self._refused.pop(name, None)
        if current == old:
            return
        try:
            await self.swap(name, releases.read(self._store, current))
        except ResidencyError as error:
            words = f"{current} was not taken up, {old} serves on: {error.message}"
            self._refused[name] = Refusal(current, words)
            say(f"{name}: {words}")
        else:
            say(f"{name}: {current} serves in place of {old}")

    async def _look_after(self, name: str) -> None:
        """Replace the engine when its memory says so."""
        deployed, now = self._deployed[name], asyncio.get_running_loop().time()
        memory = await asyncio.to_thread(deployed.supervisor.engine.memory)
        read = deployed.memory.read(memory, now, self._settings.memory * MEGABYTE)
        deployed.memory = Memory(since=now) if read.words else read
        if not read.words:
            return
        say(f"{name}: {read.words}; a fresh engine takes over")
        try:
            await self.swap(name, deployed.release)
        except ResidencyError as error:
            say(f"{name}: it serves on, for no fresh engine answers: {error.message}")
