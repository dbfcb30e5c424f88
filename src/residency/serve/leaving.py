"""Work that ends with its client: nobody computes an answer that nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.types import Receive

from residency.serve.errors import ClosingError


class ClientLeft(Exception):
    """The client closed its connection before its answer was complete."""


async def while_wanted(
    work: Coroutine[Any, Any, None], receive: Receive, closing: asyncio.Event
) -> None:
    """Run `work` to its end, or cancel it when its client leaves or `closing` is set.

    The request's body must have been read. Raises `ClientLeft` or `ClosingError`, when the work
    has ended, and what the work raises.
    """
    task = asyncio.create_task(work)
    left = asyncio.create_task(_disconnect(receive))
    closed = asyncio.create_task(closing.wait())
    try:
        await asyncio.wait({task, left, closed}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        unfinished = not task.done()
        for one in (task, left, closed):
            one.cancel()
        await asyncio.gather(task, left, closed, return_exceptions=True)
    if unfinished and closing.is_set():
        raise ClosingError("the gateway shut down before the answer was complete", hint="ask again")
    if unfinished:
        raise ClientLeft
    task.result()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
