"""Logs of other systems come into the store: read here, masked in processes beside, and written
here in batches. What is to be masked reaches no disk before it is."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from residency.config import TrafficSettings
from residency.errors import ResidencyError
from residency.hardware import usable_cores
from residency.progress import Progress
from residency.sealed import seal_from_environment
from residency.traffic.logs import Part, Rejected, parts
from residency.traffic.logs.halves import Halves
from residency.traffic.mask import masked_and_found
from residency.traffic.store import TrafficStore, row
from residency.types import Exchange

SHOWN = 20
"""Bad lines that are shown; of the rest only the number is."""
_SMALL = 1 << 18  # bytes of files that take less time than processes take to start

Personal = Literal["mask", "keep", "drop"]
Done = tuple[Path, list[list[Any] | Rejected]]


class Intake:
    """An import into `store`. Broken off, it has counted all that is there but for one batch.

    `read` counts good records, `added` those that were not there yet, `rejected` bad lines, of
    which `shown` has the first with file, line and reason. `halves` has what was left out, as its
    other half is not there.
    """

    def __init__(self, store: TrafficStore, settings: TrafficSettings) -> None:
        self.read = self.added = self.rejected = 0
        self.shown: list[str] = []
        self.halves = Halves()
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
        personal, now = self._settings.personal, time.time()
        work = partial(_rows, salt=self._store.salt, personal=personal, stored=now)
        size = sum(file.stat().st_size for file in files)
        found = self._parts(files, mapping)
        ready = _beside(work, found, 0 if size < _SMALL else usable_cores())
        with Progress("import", 0) as progress, contextlib.closing(ready):
            for path, rows in ready:
                good = list(self._good(path, rows))
                self.added += self._store.add_rows(good)
                self.read += len(good)
                progress.advance(len(good))
                if self.stopped:
                    break

    def _parts(self, files: Sequence[Path], mapping: Mapping[str, str] | None) -> Iterator[Part]:
        for file in files:
            for part in parts(file, mapping):
                whole = part.found if mapping else list(self.halves.joined(part.found))
                yield dataclasses.replace(part, found=whole)

    def _good(self, path: Path, rows: Iterable[list[Any] | Rejected]) -> Iterator[list[Any]]:
        for one in rows:
            if not isinstance(one, Rejected):
                yield one
                continue
            self.rejected += 1
            if len(self.shown) < SHOWN:
                self.shown.append(f"{path}:{one.line}: {one.reason}")
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


def _rows(part: Part, *, salt: bytes, personal: Personal, stored: float) -> Done:
    # Step by step for all of them: turn by turn takes a fifth longer, for the processor's caches.
    found = list(part.exchanges())
    found = [one if isinstance(one, Rejected) else kept(one, salt, personal) for one in found]
    return part.path, [one if isinstance(one, Rejected) else row(one, stored) for one in found]


def _beside(
    work: Callable[[Part], Done], found: Iterable[Part], count: int
) -> Generator[Done, None, None]:
    """`work` done on all parts in order, and a few ahead, by `count` processes, or here if that is
    0: to parse and mask takes longer than what is left to this one. Raises `ResidencyError` when
    one dies."""
    if not count:
        yield from map(work, found)
        return
    waiting: deque[Future[Done]] = deque()
    with ProcessPoolExecutor(count, get_context("spawn"), _start) as pool:
        try:
            for part in found:
                waiting.append(pool.submit(work, part))
                if len(waiting) > count + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise ResidencyError(
                "import: a process that reads beside this one died",
                hint="it may have been killed for want of memory; what counts as read is stored",
            ) from error


def _start() -> None:
    """Ctrl-C reaches these processes too, but is for the one that they work for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    seal_from_environment()
