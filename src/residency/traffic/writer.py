"""Exchanges go to the store from a thread of their own, in batches, and wait while it stalls."""

from __future__ import annotations

import itertools
import math
import queue
import threading
import time
from collections.abc import Iterator
from typing import Literal

from residency.errors import StorageError
from residency.progress import say
from residency.traffic.mask import masked, texts
from residency.traffic.store import TrafficStore
from residency.types import Exchange

_DAY = 86_400.0
_HOUR = 3600.0
_GRACE = 5.0  # an attempt that is under way, and the pause before it
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
GATHERING = 0.2
"""Seconds in which exchanges gather to a batch: a thread that wakes up for each takes a fifth of
the event loop's time (bench/added.py). A kill loses what gathered."""


class Recorder:
    """Writes what it is offered, masked or whole; `store` is its thread's until `close`.

    It is `full` with `limit` exchanges waiting, or `room` characters of them: then nothing new is
    to be taken on; what is under way is still kept. What is older than `retention_days` is removed
    at the start and once an hour; 0 keeps it for ever. `offered` and `written` count
    exchanges, which are written in the order in which they came, `failures` attempts that the store
    refused.
    """

    def __init__(
        self,
        store: TrafficStore,
        *,
        mode: Literal["masked", "whole"],
        retention_days: int,
        limit: int = 10_000,
        room: int = 200_000_000,
        batch: int = 500,
    ) -> None:
        self.offered = self.written = 0
        self.failures = 0
        self._store = store
        self._mode = mode
        self._days = retention_days
        self._limit, self._room, self._batch = limit, room, batch
        # Each counter has one thread that writes it, so none needs a lock.
        self._size_offered = self._size_written = 0
        self._queue: queue.SimpleQueue[tuple[Exchange, int] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._deadline = math.inf
        self._born = time.time(), time.monotonic()
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Exchanges that are not in the store yet."""
        return self.offered - self.written

    @property
    def full(self) -> bool:
        """Whether no new request may be taken on, because it might not be kept."""
        size = self._size_offered - self._size_written
        return self.waiting >= self._limit or size >= self._room or not self._thread.is_alive()

    def offer(self, exchange: Exchange) -> None:
        """Have `exchange` written; never waits. For one thread."""
        size = sum(map(len, texts([exchange.request, exchange.response])))
        self.offered += 1
        self._size_offered += size
        self._queue.put((exchange, size))

    def close(self, seconds: float = 10.0) -> int:
        """Write what waits, for at most about `seconds`; returns how many were lost.

        Blocks. The store is the caller's again, to be closed.
        """
        self._deadline = time.monotonic() + seconds
        self._closing.set()
        self._queue.put(None)
        self._thread.join(seconds + _GRACE)
        if self.waiting:
            say(f"traffic: {self.waiting} exchanges could not be written and are lost")
        return self.waiting

    def _work(self) -> None:
        due = time.monotonic() if self._days else math.inf
        ended = False
        while not ended:
            if time.monotonic() >= due:
                self._expire()
                due = time.monotonic() + _HOUR
            batch, ended = self._take(due)
            if batch and not self._write(batch):
                return

    def _take(self, due: float) -> tuple[list[tuple[Exchange, int]], bool]:
        """What waits, at most a batch, and whether the end has come; waits for the first one, and
        for others to come along."""
        batch: list[tuple[Exchange, int]] = []
        try:
            item = self._queue.get(timeout=max(0.0, min(due - time.monotonic(), _HOUR)))
            if self._queue.qsize() < self._batch:
                self._closing.wait(GATHERING)
            while item is not None:
                batch.append(item)
                if len(batch) == self._batch:
                    return batch, False
                item = self._queue.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _write(self, batch: list[tuple[Exchange, int]]) -> bool:
        """Write a batch, however often that takes; False when time has run out first."""
        for pause in _pauses():
            try:
                self._store.add(self._ready(batch))
                break
            except StorageError as error:
                self._tell(error, first=pause == _FIRST_PAUSE)
            if time.monotonic() + pause > self._deadline:
                return False
            time.sleep(pause)
        if pause > _FIRST_PAUSE:
            say("traffic: exchanges are written again")
        self.written += len(batch)
        self._size_written += sum(size for _, size in batch)
        return True

    def _ready(self, batch: list[tuple[Exchange, int]]) -> Iterator[Exchange]:
        for exchange, _ in batch:
            # Lets the event loop run, which would wait for Python's 5 ms (bench/record.py).
            time.sleep(0)
            yield masked(exchange, self._store.salt) if self._mode == "masked" else exchange

    def _expire(self) -> None:
        """Remove what is too old."""
        now = least_now(self._born, (time.time(), time.monotonic()))
        try:
            self._store.expire(now - self._days * _DAY)
        except StorageError as error:
            self._tell(error, first=True)

    def _tell(self, error: StorageError, *, first: bool) -> None:
        self.failures += 1
        if first:
            say(f"traffic: {error.message}; trying again ({self.waiting} exchanges wait)")


def least_now(born: tuple[float, float], now: tuple[float, float]) -> float:
    """The time by whichever clock shows less since `born`, for the wall's may have jumped; both are
    the wall's clock, in seconds since 1970, and a monotonic one."""
    return min(now[0], born[0] + now[1] - born[1])


def _pauses() -> Iterator[float]:
    """Seconds between attempts."""
    return (min(_FIRST_PAUSE * 2**n, _LONGEST_PAUSE) for n in itertools.count())
