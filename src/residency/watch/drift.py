"""Whether what happens now differs from what happened before by more than chance.

Both are counts of values by day: categories, lengths in steps, scripts, right and wrong answers.
How far apart two of them are is the Jensen-Shannon divergence of their shares (Lin 1991), in bits:
0 the same, 1 nothing in common. How far apart chance alone would put them is found by permutation:
the days, or where there are few the calls, are dealt out to before and now at random, ten thousand
times. Days keep together what belongs together (a busy Monday, a client that asks a hundred times);
single calls are taken as independent.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from residency.gate.statistics import holm

Days = Mapping[int, Counter[str]]
"""How often each value came, by the number of its day."""
LEAST_WAYS = 10_000
"""From so many ways to deal them out whole days are: 28 days before and 4 now have more."""
LEAST_CALLS = 50
"""Calls on each side below which nothing is told."""
CERTAIN = 0.001
"""The chance of a false alarm, of all signals together (Holm 1979)."""
LEAST_BITS = 0.018
"""The least divergence that is worth a word: where the population stability index is 0.1, which by
custom is the least shift to act on (8 times the divergence in nats, for small ones)."""
_DEALS = 9999
_VALUES = 60
_OTHER = "(other)"
_SEED = 17


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """How far `name` has moved. `bits` is the divergence, `floor` what chance stays below in 99 of
    100 deals, `p` the share of deals that reach `bits`, corrected for how many signals there are.

    `before` and `now` are shares, of `calls_before` and `calls_now` calls; `dealt` says what was
    dealt out. It `drifted` where chance is no explanation and the divergence is worth a word.
    """

    name: str
    bits: float
    floor: float
    p: float
    before: Mapping[str, float]
    now: Mapping[str, float]
    calls_before: int
    calls_now: int
    dealt: str
    drifted: bool = False

    @property
    def words(self) -> str:
        """What moved most, for a person."""
        moved = sorted(
            self.before.keys() | self.now.keys(),
            key=lambda value: (-abs(self.now.get(value, 0) - self.before.get(value, 0)), value),
        )
        return "; ".join(
            f"{value}: {self.before.get(value, 0):.1%} before, {self.now.get(value, 0):.1%} now"
            for value in moved[:3]
        )


def signals(pairs: Mapping[str, tuple[Days, Days]]) -> list[Signal]:
    """A signal for each name of `pairs` (before, now) that has enough calls on both sides."""
    found = [_signal(name, *pair) for name, pair in pairs.items() if _enough(*pair)]
    corrected = holm({one.name: one.p for one in found})
    return [
        replace(
            one,
            p=corrected[one.name],
            drifted=corrected[one.name] <= CERTAIN and one.bits >= LEAST_BITS,
        )
        for one in found
    ]


def _enough(before: Days, now: Days) -> bool:
    return min(_total(before).total(), _total(now).total()) >= LEAST_CALLS


def _total(days: Days) -> Counter[str]:
    return sum(days.values(), Counter[str]())


def _signal(name: str, before: Days, now: Days) -> Signal:
    values = _values(before, now)
    rows = np.array([_row(day, values) for day in (*before.values(), *now.values())])
    first = len(before)
    then, since = rows[:first].sum(axis=0), rows[first:].sum(axis=0)
    bits = float(divergence(then, since))
    by_days = math.comb(len(rows), first) >= LEAST_WAYS
    chance = _by_days(rows, first) if by_days else _by_calls(then, since)
    return Signal(
        name=name,
        bits=bits,
        floor=float(np.quantile(chance, 0.99)),
        # Rounding must not make a deal that is the same one less.
        p=float(1 + (chance >= bits - 1e-12).sum()) / (1 + len(chance)),
        before=_shares(values, then),
        now=_shares(values, since),
        calls_before=int(then.sum()),
        calls_now=int(since.sum()),
        dealt="days" if by_days else "calls",
    )


def _values(before: Days, now: Days) -> list[str]:
    """The commonest values of both; the rest are one."""
    counts = _total(before) + _total(now)
    common = sorted(counts, key=lambda value: (-counts[value], value))
    return common if len(common) <= _VALUES else [*common[: _VALUES - 1], _OTHER]


def _row(day: Counter[str], values: Sequence[str]) -> list[int]:
    row = [day[value] for value in values]
    if values[-1] == _OTHER:
        row[-1] = day.total() - sum(row[:-1])
    return row


def divergence(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float64]:
    """The Jensen-Shannon divergence, in bits, of counts along the last axis."""
    p = one / np.maximum(one.sum(axis=-1, keepdims=True), 1)
    q = other / np.maximum(other.sum(axis=-1, keepdims=True), 1)
    middle = (p + q) / 2
    return np.asarray(_entropy(middle) - (_entropy(p) + _entropy(q)) / 2).clip(0.0)


def _entropy(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    logs = np.log2(shares, where=shares > 0, out=np.zeros_like(shares))
    return np.asarray(-(shares * logs).sum(axis=-1))


def _by_days(rows: NDArray[np.int64], first: int) -> NDArray[np.float64]:
    random = np.random.default_rng(_SEED)
    order = random.random((_DEALS, len(rows))).argsort(axis=1)
    deals = (order < first).astype(np.int64) @ rows
    return divergence(deals, rows.sum(axis=0) - deals)


def _by_calls(then: NDArray[np.int64], since: NDArray[np.int64]) -> NDArray[np.float64]:
    random = np.random.default_rng(_SEED)
    pooled = then + since
    deals = random.multivariate_hypergeometric(
        pooled, int(since.sum()), size=_DEALS, method="marginals"
    )
    return divergence(pooled - deals, deals)


def _shares(values: Sequence[str], counts: NDArray[np.int64]) -> dict[str, float]:
    total = max(int(counts.sum()), 1)
    return {v: int(n) / total for v, n in zip(values, counts, strict=True) if n}
