"""What answers for a model: a release on an engine of ours, or an API elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from residency.config import ServedModel
from residency.engines.client import ChatClient
from residency.engines.guarantees import GUARANTEES, NONE, Guarantee
from residency.engines.supervisor import Supervisor
from residency.errors import ResidencyError
from residency.serve.context import ContextWindow, EngineReader
from residency.serve.launch import engine_of
from residency.serve.watchdog import Memory
from residency.types import Message, Release, with_system

FIRST_QUESTION = Message(role="user", content="Are you there?")
FIRST_TOKENS = 4
QUIET_SECONDS = 30.0
"""How long a deterministic request waits for its engine after a crash."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Station:
    """What one request needs to know of what answers it.

    `build` names it in records, `digest` is that of the build's bytes (empty for an API);
    `template` is the engine's `chat_template_caps`; `guarantee` holds for deterministic requests.
    An API has no `release` and no `window`.
    """

    client: ChatClient
    build: str
    digest: str = ""
    release: Release | None = None
    window: ContextWindow | None = None
    template: Mapping[str, Any] = field(default_factory=dict)
    guarantee: Guarantee = NONE


class Deployment:
    """A release on its engine, and the requests that it has at work. Lives in one event loop.

    `quiet` is an engine of one slot, for deterministic requests: beside others the last digits of
    what an engine computes may change, and with them the answer. It starts when first needed.
    """

    def __init__(
        self,
        served: ServedModel,
        release: Release,
        supervisor: Supervisor,
        quiet: Supervisor | None,
    ) -> None:
        self.release = release
        self.supervisor = supervisor
        self.memory = Memory(since=asyncio.get_running_loop().time())
        self._served = served
        self._quiet = quiet
        self._starting: asyncio.Task[None] | None = None
        self._window = ContextWindow(
            release.context, EngineReader(supervisor.client, release.model)
        )
        self._template: Mapping[str, Any] = {}
        self._at_work = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def begin(self) -> None:
        """Load the model and have it answer a first question.

        Raises what prevents it, having stopped the engine again.
        """
        try:
            await self.supervisor.start()
            client = self.supervisor.client()
            asked = with_system([FIRST_QUESTION], self.release.system)
            messages = [message.to_dict() for message in asked]
            body = {"model": self.release.model, "messages": messages, "temperature": 0.0}
            await client.chat({**body, "max_tokens": FIRST_TOKENS})
            self._template = (await client.props()).get("chat_template_caps", {})
        except BaseException:
            await self.supervisor.stop()
            raise

    @contextlib.asynccontextmanager
    async def use(self, deterministic: bool) -> AsyncIterator[Station]:
        """Count one request as at work here. Raises `EngineUnavailable`, and what keeps the engine
        for deterministic requests from its start."""
        self._at_work += 1
        self._idle.clear()
        try:
            quiet = self._quiet if deterministic else None
            if quiet:
                await self._start(quiet)
            yield Station(
                client=(quiet or self.supervisor).client(),
                build=self.release.name,
                digest=self.release.build.digest,
                release=self.release,
                window=self._window,
                template=self._template,
                guarantee=GUARANTEES[engine_of(self._served, self.release)],
            )
        finally:
            self._at_work -= 1
            if not self._at_work:
                self._idle.set()

    async def _start(self, quiet: Supervisor) -> None:
        """Once for all who wait for it; a failed start is tried again by the next."""
        if self._starting is None:
            self._starting = asyncio.create_task(quiet.start())
        try:
            await asyncio.shield(self._starting)
        except ResidencyError:
            self._starting = None
            raise
        await quiet.until_ready(QUIET_SECONDS)

    async def retire(self, seconds: float) -> None:
        """Stop once the requests have ended, or after `seconds`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        await self.stop()

    async def stop(self) -> None:
        """End both engines."""
        if self._starting:
            self._starting.cancel()
        for one in filter(None, (self.supervisor, self._quiet)):
            await one.stop()
