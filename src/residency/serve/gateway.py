"""What the endpoints share: the release, the way to its engine, and whether we still take work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Protocol

from residency.engines.client import EngineClient
from residency.serve.errors import ClosingError
from residency.types import Release


class Upstream(Protocol):
    """Where the engine is."""

    def client(self) -> EngineClient:
        """The client of the running engine. Raises `EngineUnavailable` that says why there is
        none."""


class Gateway:
    """`timeout` in seconds for a whole answer. Once `draining`, new work is refused; `closing`
    ends what is still at work."""

    def __init__(self, release: Release, upstream: Upstream, *, timeout: float) -> None:
        self.release = release
        self.timeout = timeout
        self.client = upstream.client
        self.closing = asyncio.Event()
        self.draining = False
        self._at_work = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Count one request as at work. Raises `ClosingError` once we are draining."""
        self.refuse_when_draining()
        self._at_work += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._at_work -= 1
            if not self._at_work:
                self._idle.set()

    def refuse_when_draining(self) -> None:
        if self.draining:
            raise ClosingError("the gateway is shutting down", hint="ask another, or ask later")

    async def drain(self, seconds: float) -> None:
        """Take no more work; wait up to `seconds`, or until `closing` is set, for what is at work;
        then break it off."""
        self.draining = True
        idle = asyncio.create_task(self._idle.wait())
        closing = asyncio.create_task(self.closing.wait())
        await asyncio.wait({idle, closing}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        self.closing.set()
        await asyncio.wait({idle, closing})
