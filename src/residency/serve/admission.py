"""Whose turn it is: a bounded queue before a model, fair between callers.

Turns go round among the callers that wait, and first come, first served within one: a caller with
sixty requests delays another's single one by one turn, not by sixty.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from residency.serve.errors import RETRY_SECONDS, RequestError

SHARE = 0.5
"""The part of a queue that one caller may fill, so that there is room left for the others."""
_WEIGHT = 0.1  # of the newest service time in the running mean


class Overloaded(RequestError):
    """The model has more to do than it can; another one may be free."""


class Next(NamedTuple):
    """The `ticket` whose turn it is, and the `queue` without it."""

    ticket: int
    queue: FairQueue


@dataclass(frozen=True, kw_only=True, slots=True)
class FairQueue:
    """At most `limit` tickets wait, of one caller at most `share` (0..1) of that, and at least one.

    `lines` are the tickets by caller's name; the first line is served next.
    """

    limit: int
    share: float = SHARE
    lines: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.lines.values()))

    def has_room(self, caller: str) -> bool:
        most = max(1, math.ceil(self.limit * self.share))
        return len(self) < self.limit and len(self.lines.get(caller, ())) < most

    def join(self, caller: str, ticket: int) -> FairQueue:
        """With `ticket` at the end of the caller's line; only where there is room."""
        line = (*self.lines.get(caller, ()), ticket)
        return replace(self, lines={**self.lines, caller: line})

    def leave(self, caller: str, ticket: int) -> FairQueue:
        """Without `ticket`, if it still waits. The others keep their places."""
        line = tuple(t for t in self.lines.get(caller, ()) if t != ticket)
        lines = {c: line if c == caller else other for c, other in self.lines.items()}
        return replace(self, lines={c: other for c, other in lines.items() if other})

    def next(self) -> Next:
        """Serve the first line, which then goes to the end; only where somebody waits."""
        caller, (ticket, *rest) = next(iter(self.lines.items()))
        lines = {c: line for c, line in self.lines.items() if c != caller}
        if rest:
            lines[caller] = tuple(rest)
        return Next(ticket, replace(self, lines=lines))


class Admission:
    """`slots` requests are at work at once, `queue` may wait, each at most `wait` seconds.
    `busy` is how many are at work.

    Belongs to one event loop, which is why it needs no lock: nothing here is awaited between a look
    at the state and its change.
    """

    def __init__(self, slots: int, queue: int, wait: float, share: float = SHARE) -> None:
        self._slots = slots
        self._wait = wait
        self._queue = FairQueue(limit=queue, share=share)
        self._places: dict[int, asyncio.Future[None]] = {}
        self._tickets = itertools.count()
        self.busy = 0
        self._service: float | None = None

    @property
    def slots(self) -> int:
        return self._slots

    @slots.setter
    def slots(self, count: int) -> None:
        """Requests at work keep their turns; fewer slots only delay the next ones."""
        self._slots = count
        self._call()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @contextlib.asynccontextmanager
    async def turn(self, caller: str, patience: float = math.inf) -> AsyncIterator[float]:
        """A turn for as long as the block runs; gives the seconds that it was waited for, which are
        not more than `patience`.

        Raises `Overloaded`: 429 `queue_full` (with Retry-After) when there is no place to wait in,
        503 `queue_timeout` when the wait was too long.
        """
        clock = asyncio.get_running_loop().time
        came = clock()
        if self.busy < self._slots and not self._queue:
            self.busy += 1
        else:
            await self._wait_for_turn(caller, min(self._wait, patience))
        begin = clock()
        try:
            yield begin - came
        finally:
            seconds = clock() - begin
            mean = seconds if self._service is None else self._service
            self._service = mean + _WEIGHT * (seconds - mean)
            self._end()

    async def _wait_for_turn(self, caller: str, seconds: float) -> None:
        if not self._queue.has_room(caller):
            raise self._full()
        ticket = next(self._tickets)
        self._queue = self._queue.join(caller, ticket)
        place = self._places[ticket] = asyncio.get_running_loop().create_future()
        came = False
        try:
            async with asyncio.timeout(seconds):
                await place
            came = True
        except TimeoutError:
            raise Overloaded(
                f"the model was busy for all of the {seconds:.3g} s that a request may wait",
                status=503,
                code="queue_timeout",
                headers=self._retry_after(),
            ) from None
        finally:
            del self._places[ticket]
            self._queue = self._queue.leave(caller, ticket)
            if not came and place.done() and not place.cancelled():
                self._end()  # the turn came in the moment in which its owner left

    def _end(self) -> None:
        self.busy -= 1
        self._call()

    def _call(self) -> None:
        """Give the free slots to those who wait. One who is about to leave has no turn."""
        while self.busy < self._slots and self._queue:
            ticket, self._queue = self._queue.next()
            place = self._places[ticket]
            if not place.done():
                place.set_result(None)
                self.busy += 1

    def _full(self) -> Overloaded:
        return Overloaded(
            "too many requests wait for this model already",
            status=429,
            code="queue_full",
            headers=self._retry_after(),
        )

    def _retry_after(self) -> dict[str, str]:
        """When those who wait now will have been served, at the mean time of a request so far."""
        if self._service is None or not self._slots:
            return {"retry-after": str(RETRY_SECONDS)}
        seconds = (len(self._queue) + 1) * self._service / self._slots
        return {"retry-after": str(max(1, math.ceil(seconds)))}
