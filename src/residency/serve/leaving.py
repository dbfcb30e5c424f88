"""Work that ends with its client: nobody computes an answer that nobody waits for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from starlette.types import Receive

from residency.serve.errors import ClosingError
from residency.serve.interrupt import Interrupt, Interrupted


class ClientLeft(Exception):
    """The client closed its connection before its answer was complete."""


class Closing(asyncio.Event):
    """Set when what is still at work is to end at once; `telling` has it call back then."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[Callable[[], None]] = set()

    def set(self) -> None:
        super().set()
        for one in tuple(self._told):
            one()

    @contextlib.contextmanager
    def telling(self, callback: Callable[[], None]) -> Iterator[None]:
        self._told.add(callback)
        if self.is_set():
            callback()
        try:
            yield
        finally:
            self._told.discard(callback)


async def while_wanted(work: Coroutine[Any, Any, None], receive: Receive, closing: Closing) -> None:
    """Run `work` to its end, or end it when its client leaves or `closing` is set.

    The request's body must have been read. Raises `ClientLeft` or `ClosingError`, when the work
    has ended, and what the work raises.
    """
    interrupt = Interrupt()
    left = asyncio.create_task(_disconnect(receive, interrupt))
    try:
        with contextlib.closing(work), closing.telling(interrupt), interrupt:
            await work
    except Interrupted:
        if closing.is_set():
            raise ClosingError(
                "the gateway shut down before the answer was complete", hint="ask again"
            ) from None
        raise ClientLeft from None
    finally:
        left.cancel()


async def _disconnect(receive: Receive, interrupt: Interrupt) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    interrupt()
