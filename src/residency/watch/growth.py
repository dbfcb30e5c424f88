"""Does a series of readings grow for certain, and how fast?"""

from __future__ import annotations

import functools
import math
from itertools import combinations
from typing import NamedTuple

from residency.gate.intervals import Z
from residency.types import Rate


class Reading(NamedTuple):
    """A value at a time in seconds."""

    time: float
    value: float


@functools.lru_cache(maxsize=64)  # asked every few seconds of what changes once a minute
def slope(readings: tuple[Reading, ...]) -> Rate | None:
    """How much the value grows in a second, with its 95% interval; None for fewer than three.

    The median of the slopes of all pairs (Theil 1950), which a few jumps do not move, and the
    interval that Sen (1968) takes from the variance of Kendall's statistic.
    """
    n = len(readings)
    if n < 3:
        return None
    slopes = sorted(
        (b.value - a.value) / (b.time - a.time)
        for a, b in combinations(readings, 2)
        if b.time > a.time
    )
    count = len(slopes)
    width = Z * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low = max(0, math.floor((count - width) / 2))
    high = min(count - 1, math.ceil((count + width) / 2))
    middle = (slopes[(count - 1) // 2] + slopes[count // 2]) / 2
    return Rate(value=middle, low=slopes[low], high=slopes[high], n=n)


def steady(readings: tuple[Reading, ...]) -> Rate | None:
    """The slope, if it is above 0 for certain, and so it is in the later half alone: what only
    warms up levels off."""
    whole, late = slope(readings), slope(readings[len(readings) // 2 :])
    return whole if whole and late and whole.low > 0 and late.low > 0 else None


class Series:
    """Readings averaged over `step` seconds, the last `most` of them."""

    def __init__(self, step: float = 60.0, most: int = 60) -> None:
        self._step, self._most = step, most
        self._open: list[Reading] = []
        self.readings: tuple[Reading, ...] = ()

    def add(self, time: float, value: float) -> None:
        """One more reading, later than the ones before."""
        if self._open and time // self._step > self._open[0].time // self._step:
            count = len(self._open)
            mean = [sum(column) / count for column in zip(*self._open, strict=True)]
            self.readings = (*self.readings, Reading(*mean))[-self._most :]
            self._open = []
        self._open.append(Reading(time, value))
