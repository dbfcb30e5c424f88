"""Percentiles of many values in little memory: DDSketch (Masson, Rim and Lee, VLDB 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping

ACCURACY = 0.01
"""The relative error that no percentile exceeds."""
BINS = 2048
"""With more than these the lowest are folded together. At 1% they span a factor of 10^17, so that
of seconds and tokens none ever are."""
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_SCALE = 1 / math.log(_GAMMA)
_MIDDLE = 2 / (1 + _GAMMA)


class Sketch:
    """Counts of values >= 0 in bins that grow by 2%: any percentile is that of the values, exact to
    `ACCURACY`. Two sketches merged are the sketch of all their values.

    `count` and `total` are the number and the sum of the values; `most` is the largest.
    """

    __slots__ = ("_bins", "_zeros", "count", "most", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.most = 0.0
        self._zeros = 0
        self._bins: dict[int, int] = {}

    def add(self, value: float) -> None:
        """One more value; one below 0, which a clock may give, counts as 0."""
        self.count += 1
        if value <= 0:
            self._zeros += 1
            return
        self.total += value
        self.most = max(self.most, value)
        bin_ = math.ceil(math.log(value) * _SCALE)
        self._bins[bin_] = self._bins.get(bin_, 0) + 1
        if len(self._bins) > BINS:
            self._fold()

    def merge(self, other: Sketch) -> None:
        """Add all that `other` has counted."""
        self.count += other.count
        self.total += other.total
        self.most = max(self.most, other.most)
        self._zeros += other._zeros
        bins = self._bins
        for bin_, count in other._bins.items():
            bins[bin_] = bins.get(bin_, 0) + count
        while len(bins) > BINS:
            self._fold()

    def quantile(self, share: float) -> float | None:
        """The value that `share` (0..1) of the values do not exceed: of the sorted ones that at
        index floor(share * (count - 1)). None where there are none."""
        return self.quantiles((share,))[share]

    def quantiles(self, shares: tuple[float, ...]) -> Mapping[float, float | None]:
        """Several, by their shares, for the price of one."""
        if not self.count:
            return dict.fromkeys(shares)
        found: dict[float, float | None] = {}
        ordered = iter(sorted(self._bins.items()))
        seen, value = self._zeros, 0.0
        for share in sorted(shares):
            rank = math.floor(share * (self.count - 1))
            while seen <= rank:
                bin_, count = next(ordered)
                seen += count
                value = _MIDDLE * math.exp(bin_ / _SCALE)
            found[share] = value
        return found

    def above(self, value: float) -> int:
        """How many values are above `value`, give or take those within 1% of it."""
        if value <= 0:
            return self.count - self._zeros
        last = math.ceil(math.log(value) * _SCALE)
        return sum(count for bin_, count in self._bins.items() if bin_ > last)

    def _fold(self) -> None:
        """Count the lowest bin in with the next one: only the lowest percentiles lose by it."""
        lowest, second = sorted(self._bins)[:2]
        self._bins[second] += self._bins.pop(lowest)
