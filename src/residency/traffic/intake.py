"""Logs of other systems come into the store: read here, masked in processes beside, and written
here in batches. What is to be masked reaches no disk before it is."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from residency.config import TrafficSettings
from residency.hardware import usable_cores
from residency.progress import Progress
from residency.sealed import seal_from_environment
from residency.traffic import logs
from residency.traffic.mask import masked_and_found, texts
from residency.traffic.store import TrafficStore, row
from residency.types import Exchange

SHOWN = 20
"""Bad lines that are shown; of the rest only the number is."""
_BATCH, _ROOM = 500, 4_000_000  # exchanges, and characters of them

Personal = Literal["mask", "keep", "drop"]
Rows = list[list[Any]]


class Intake:
    """An import into `store`. Broken off, it has counted all that is there but for one batch.

    `read` counts good records, `added` those that were not there yet, `rejected` bad lines, of
    which `shown` has the first with file, line and reason. `oldest` is in seconds since 1970.
    """

    def __init__(self, store: TrafficStore, settings: TrafficSettings) -> None:
        self.read = self.added = self.rejected = 0
        self.shown: list[str] = []
        self.oldest = math.inf
        self._store = store
        self._settings = settings

    @property
    def stopped(self) -> bool:
        """Whether there were more bad lines than the settings bear."""
        return self.rejected > self._settings.rejects

    def run(self, files: Sequence[Path], mapping: Mapping[str, str] | None = None) -> None:
        """Read `files` until their end, or until it is `stopped`; `mapping` is for their columns.

        Raises `DataError` for a file that is no log, and `StorageError`; each batch is in the store
        as soon as it counts as read.
        """
        work = partial(_rows, salt=self._store.salt, personal=self._settings.personal)
        batches = self._batches(files, mapping)
        with Progress("import", 0) as progress, contextlib.closing(_beside(work, batches)) as done:
            for rows in done:
                self.added += self._store.add_rows(rows)
                self.read += len(rows)
                progress.advance(len(rows))

    def _batches(
        self, files: Sequence[Path], mapping: Mapping[str, str] | None
    ) -> Iterator[list[Exchange]]:
        batch: list[Exchange] = []
        size = 0
        for one in self._exchanges(files, mapping):
            batch.append(one)
            size += sum(map(len, texts([one.request, one.response])))
            if len(batch) == _BATCH or size > _ROOM:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _exchanges(
        self, files: Sequence[Path], mapping: Mapping[str, str] | None
    ) -> Iterator[Exchange]:
        for file in files:
            for one in logs.read(file, mapping):
                if isinstance(one, Exchange):
                    self.oldest = min(self.oldest, one.time)
                    yield one
                    continue
                self.rejected += 1
                if len(self.shown) < SHOWN:
                    self.shown.append(f"{file}:{one.line}: {one.reason}")
                if self.stopped:
                    return


def kept(exchange: Exchange, salt: bytes, personal: Personal) -> Exchange:
    """`exchange` as the setting `personal` wants it, with what was found in it, by kind, as its tag
    `personal`. What is dropped leaves its figures, and its tags masked."""
    hidden, kinds = masked_and_found(exchange, salt)
    if personal != "keep":
        exchange = hidden
    if not kinds:
        return exchange
    if personal == "drop":
        exchange = dataclasses.replace(exchange, request={}, response=None)
    return dataclasses.replace(exchange, tags={**exchange.tags, "personal": dict(kinds)})


def _rows(batch: list[Exchange], *, salt: bytes, personal: Personal) -> Rows:
    return [row(kept(one, salt, personal)) for one in batch]


def _beside(
    work: Callable[[list[Exchange]], Rows], batches: Iterator[list[Exchange]]
) -> Generator[Rows, None, None]:
    """`work` done on all batches, a few ahead, by a process a core: masking takes longer than what
    is left to this one. A single batch is done here: a process takes longer to start.
    """
    first = list(itertools.islice(batches, 2))
    if len(first) < 2:
        yield from map(work, first)
        return
    count = usable_cores()
    waiting: deque[Future[Rows]] = deque()
    with ProcessPoolExecutor(count, get_context("spawn"), _start) as pool:
        for batch in itertools.chain(first, batches):
            waiting.append(pool.submit(work, batch))
            if len(waiting) > count + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _start() -> None:
    """Ctrl-C reaches these processes too, but is for the one that they work for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    seal_from_environment()
