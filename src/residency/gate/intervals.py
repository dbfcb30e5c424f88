"""95% intervals of what was measured on a test split."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from residency.types import Rate

Z = 1.959963984540054  # the normal distribution's 97.5% point
RESAMPLES = 2000
SEED = 17
_DIGITS = 6


def rate(hits: Sequence[bool]) -> Rate:
    """The share of true values with its Wilson interval."""
    return wilson(sum(hits) / len(hits) if hits else 0.0, len(hits))


def wilson(value: float, n: int) -> Rate:
    """The score interval of Wilson (1927) for a proportion `value` (0..1) of `n` cases.

    Of no cases nothing is known: 0..1.
    """
    if n == 0:
        return Rate(value=0.0, low=0.0, high=1.0, n=0)
    scale = 1 + Z * Z / n
    centre = (value + Z * Z / (2 * n)) / scale
    half = Z / scale * math.sqrt(value * (1 - value) / n + Z * Z / (4 * n * n))
    return _ordered(value, max(0.0, centre - half), min(1.0, centre + half), n)


def mean(values: Sequence[float]) -> Rate:
    """The mean of values in 0..1 with its percentile bootstrap interval (Efron 1979).

    Where all values are equal a bootstrap claims certainty, so Wilson's interval is used: it is
    wide enough for any values in 0..1, whose variance is at most that of a proportion.
    """
    if not values or min(values) == max(values):
        return wilson(values[0] if values else 0.0, len(values))
    return _bootstrap(np.asarray(values, dtype=np.float64))


def gain(ours: Sequence[float], theirs: Sequence[float]) -> Rate:
    """The mean of `ours - theirs` over the same cases, in -1..1, with its interval.

    Paired bootstrap: cases are drawn, each with both of its scores. Where all differences are
    equal, the Wilson intervals of both sides are combined as by Newcombe (1998, method 10 without
    its term for correlation).
    """
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    if len(differences) and differences.min() != differences.max():
        return _bootstrap(differences)
    a, b = mean(ours), mean(theirs)
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return _ordered(value, max(-1.0, low), min(1.0, high), len(differences))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Rate:
    """How many times theirs ours is: the geometric mean over the same cases of positive values,
    with its paired bootstrap interval."""
    logs = np.log(np.asarray(ours, dtype=np.float64)) - np.log(np.asarray(theirs, np.float64))
    found = _bootstrap(logs)
    value, low, high = (math.exp(v) for v in (found.value, found.low, found.high))
    return _ordered(value, low, high, found.n)


def _bootstrap(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Rate:
    generator = np.random.default_rng(SEED)
    n = len(values)
    means = [float(values[generator.integers(n, size=n)].mean()) for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return _ordered(float(values.mean()), float(low), float(high), n)


def _ordered(value: float, low: float, high: float, n: int) -> Rate:
    """A rate whose interval holds its value in spite of rounding."""
    value, low, high = round(value, _DIGITS), round(low, _DIGITS), round(high, _DIGITS)
    return Rate(value=value, low=min(low, value), high=max(high, value), n=n)
