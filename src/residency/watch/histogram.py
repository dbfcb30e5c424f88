"""Prometheus's histogram for a path where microseconds count.

`prometheus_client`'s own takes five times as long for a value (a lock, and a walk over the bounds).
This one belongs to one thread; the form that is read is the library's.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class _Child:
    """What was seen with the same labels: how many values up to each bound and beyond the one
    below it, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self, bounds: int) -> None:
        self.counts = [0] * (bounds + 1)
        self.total = 0.0


class Histogram(Collector):
    """`name` and `words` describe it, `labels` name what tells its children apart, `bounds` are the
    upper ends of its bins, in their order."""

    def __init__(
        self,
        name: str,
        words: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._words, self._labels, self._bounds = name, words, labels, bounds
        self._children: dict[tuple[str, ...], _Child] = {}
        registry.register(self)

    def observe(self, value: float, *labels: str) -> None:
        """Count `value` among those with these labels."""
        if (child := self._children.get(labels)) is None:
            child = self._children[labels] = _Child(len(self._bounds))
        child.counts[bisect_left(self._bounds, value)] += 1
        child.total += value

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._words, labels=self._labels)

    def describe(self) -> list[Metric]:
        """So that the registry refuses a second one of this name."""
        return [self._family()]

    def collect(self) -> Iterator[Metric]:
        """All children, as the library writes them."""
        family = self._family()
        ends = [*map(floatToGoString, self._bounds), "+Inf"]
        for labels, child in self._children.items():
            sums = accumulate(child.counts)
            family.add_metric(labels, list(zip(ends, sums, strict=True)), child.total)
        yield family
