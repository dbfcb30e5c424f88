"""The gateway's windows once more, from the record: for a view while no gateway runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

from residency.config import WatchSettings
from residency.types import Exchange
from residency.watch.alerts import iso
from residency.watch.finished import money_saved
from residency.watch.history import finished
from residency.watch.windows import Windows

_DAY = 86_400.0
_LATE = 600.0
"""Seconds by which a call may be written after it came."""


class Recorded:
    """`calls` gives the recorded ones of any time; each look reads only what is new."""

    def __init__(
        self,
        calls: Callable[[float, float], Iterator[Exchange]],
        settings: WatchSettings,
        remote: Collection[str],
    ) -> None:
        self._calls, self._settings, self._remote = calls, settings, remote
        start = time.time() - _DAY
        self._windows = Windows({one.model for one in calls(start, time.time())}, start)
        self._read_to = start
        self._seen: dict[str, float] = {}

    def snapshot(self) -> dict[str, Any]:
        """As `Observer.snapshot`, with `recorded`, and without engines, machine and alerts."""
        now = time.time()
        for exchange in self._calls(self._read_to, now):
            if exchange.id not in self._seen:
                self._seen[exchange.id] = exchange.time
                event = finished(exchange, self._remote)
                # In the order of their beginnings: the windows' clock does not go back.
                self._windows.add(event, money_saved(event, self._settings), exchange.time)
        self._read_to = max(self._read_to, now - _LATE)
        self._seen = {id_: at for id_, at in self._seen.items() if at >= self._read_to}
        return {
            "recorded": True,
            "since": iso(self._windows.since),
            "now": iso(now),
            "priced": self._settings.api_price_in is not None,
            **self._windows.figures(now),
            "engines": [],
            "gateway": None,
            "alerts": [],
        }
