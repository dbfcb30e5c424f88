"""Several answers to one question: `n` streams of the engine, merged as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

Chunk = dict[str, Any]
_AHEAD = 16


async def merged(streams: Sequence[AsyncGenerator[Chunk]]) -> AsyncGenerator[Chunk]:
    """The chunks of all `streams`, each chunk's choice under the number of its stream.

    What one of them raises ends all; leaving early closes all.
    """
    queue: asyncio.Queue[Chunk | None] = asyncio.Queue(_AHEAD)

    async def pump(index: int, stream: AsyncGenerator[Chunk]) -> None:
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                await queue.put(_numbered(chunk, index))

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as group:
            for index, stream in enumerate(streams):
                group.create_task(pump(index, stream))

    pumping = asyncio.create_task(all_of_them())
    pumping.add_done_callback(lambda _: _wake(queue))
    try:
        while not (pumping.done() and queue.empty()):
            chunk = await queue.get()
            if chunk is not None:
                yield chunk
        _raise_first(pumping)
    finally:
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)


def _wake(queue: asyncio.Queue[Chunk | None]) -> None:
    """Let a reader that waits for a chunk see that none will come."""
    if not queue.full():
        queue.put_nowait(None)


def _raise_first(pumping: asyncio.Task[None]) -> None:
    """Raise what ended the streams, out of the group that it came in."""
    try:
        pumping.result()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


def _numbered(chunk: Chunk, index: int) -> Chunk:
    return {**chunk, "choices": [{**one, "index": index} for one in chunk["choices"]]}
