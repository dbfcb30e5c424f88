"""How far a few categories go, and how well a tag of the log agrees with what was discovered."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

SHARES = (0.5, 0.8, 0.95)


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """`curve[k]` is the share (0..1) that the k+1 largest categories have; `needed` says for each
    of `SHARES`, in percent, how many categories cover it, None where all together do not."""

    curve: tuple[float, ...]
    needed: Mapping[str, int | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A tag beside the discovered categories, over the `calls` that have both.

    `share` is that of all calls which have the tag, `values` how many values it has. `nmi` is the
    normalised mutual information and `purity` the share of calls whose category's most common
    value is their own; both 0..1. `table` counts calls by category, then by value.
    """

    tag: str
    share: float
    values: int
    calls: int
    nmi: float
    purity: float
    table: Mapping[str, Mapping[str, int]]


def coverage(amounts: Iterable[float], total: float) -> Coverage | None:
    """The curve over what each category has of `total`; None where the total is nothing."""
    if total <= 0:
        return None
    sums = itertools.accumulate(sorted(amounts, reverse=True))
    curve = tuple(min(one / total, 1.0) for one in sums)
    return Coverage(curve=curve, needed={f"{share:.0%}": _needed(curve, share) for share in SHARES})


def _needed(curve: Sequence[float], share: float) -> int | None:
    return next((k for k, one in enumerate(curve, 1) if one >= share - 1e-9), None)


def compare(tag: str, pairs: Counter[tuple[str, str]], total: int) -> Comparison:
    """`pairs` counts calls by category and value of the tag; `total` counts all calls."""
    calls = pairs.total()
    table: dict[str, Counter[str]] = {}
    for (category, value), count in pairs.items():
        table.setdefault(category, Counter())[value] += count
    return Comparison(
        tag=tag,
        share=calls / total,
        values=len({value for _, value in pairs}),
        calls=calls,
        nmi=nmi(pairs),
        purity=sum(max(row.values()) for row in table.values()) / calls,
        table={name: dict(row.most_common()) for name, row in _largest_first(table)},
    )


def _largest_first(table: Mapping[str, Counter[str]]) -> list[tuple[str, Counter[str]]]:
    return sorted(table.items(), key=lambda item: (-item[1].total(), item[0]))


def nmi(pairs: Counter[tuple[str, str]]) -> float:
    """Mutual information of the two labels over the mean of their entropies, 0..1.

    1 where they agree but for names; also where neither tells anything apart.
    """
    total = pairs.total()
    left: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for (one, other), count in pairs.items():
        left[one] += count
        right[other] += count
    mean = (_entropy(left) + _entropy(right)) / 2
    shared = sum(
        count / total * math.log(count * total / (left[one] * right[other]))
        for (one, other), count in pairs.items()
        if count
    )
    return min(max(shared / mean, 0.0), 1.0) if mean > 0 else 1.0


def _entropy(counts: Counter[str]) -> float:
    total = counts.total()
    return -sum(n / total * math.log(n / total) for n in counts.values() if n)
