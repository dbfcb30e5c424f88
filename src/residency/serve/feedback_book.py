"""Feedback on its way to the store, beside the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from residency.serve.errors import stalled
from residency.traffic.feedback import Feedback
from residency.traffic.store import TrafficStore
from residency.traffic.writer import Recorder

WRITTEN_SECONDS = 5.0
"""How long feedback waits for the record of the answer that it is about."""
_LOOK_AGAIN_SECONDS = 0.05

T = TypeVar("T")


class FeedbackBook:
    """Where feedback is written: `store` has a thread of its own here, until `close`."""

    def __init__(self, store: TrafficStore, recorder: Recorder, *, masked: bool) -> None:
        self._store = store
        self._recorder = recorder
        self._masked = masked
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feedback")

    async def keep(self, one: Feedback) -> bool:
        """Keep `one`, durably as exchanges are, once all exchanges so far are written; False where
        its key has asked none with that id.

        Raises `RequestError` (503) where the record is not written in time, and `StorageError`.
        """
        await self._caught_up()
        exchange = await self._beside(lambda: self._store.find(one.exchange))
        if exchange is None or exchange.key != one.key:
            return False
        kept = one.masked() if self._masked else one
        return bool(await self._beside(lambda: self._store.rate([kept])))

    def close(self) -> None:
        self._thread.shutdown()
        self._store.close()

    async def _caught_up(self) -> None:
        recorder = self._recorder
        mark, end = recorder.offered, time.monotonic() + WRITTEN_SECONDS
        while recorder.written < mark:
            if time.monotonic() > end:
                raise stalled("the record of the answer is not written yet")
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _beside(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
