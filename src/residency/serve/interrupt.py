"""Ending what a task waits for, from a callback, as `asyncio.timeout` does; but one of them serves
for many waits, and costs nothing at each."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Interrupted(Exception):
    """The wait was ended before what was waited for had come."""


class Interrupt:
    """Call it, from a callback of the event loop, to end the block that the task which made it is
    in, or the next that it enters. The block raises `Interrupted`."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._open = False
        self._cancelling = task.cancelling()
        self.happened = False

    def __call__(self) -> None:
        if not self.happened:
            self.happened = True
            if self._open:
                self._task.cancel()

    def __enter__(self) -> None:
        if self.happened:
            raise Interrupted
        self._open = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._open = False
        if not self.happened:
            return
        others = self._task.uncancel() > self._cancelling  # who cancelled the task means all of it
        if not others and isinstance(error, asyncio.CancelledError):
            raise Interrupted from None
