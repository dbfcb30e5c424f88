"""What a test split of a given size can tell, and what many tries do to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from residency.gate import intervals
from residency.gate.intervals import Z
from residency.gate.score import Relation
from residency.types import Rate

Z_POWER = 0.8416212335729143  # the normal distribution's 80% point


@dataclass(frozen=True, kw_only=True, slots=True)
class NotWorse:
    """Whether ours is worse than theirs by no more than `margin`. `gain` is ours minus theirs."""

    passed: bool
    margin: float
    gain: Rate


@dataclass(frozen=True, kw_only=True, slots=True)
class Kappa:
    """Agreement beyond chance of two raters of `n` cases: 1 is perfect, 0 is chance."""

    value: float
    low: float
    high: float
    n: int


def mcnemar(ours: Sequence[bool], theirs: Sequence[bool]) -> float:
    """The exact two-sided p-value of McNemar's test (1947): are two builds right equally often?

    Only cases count that one got right and the other wrong; under the null hypothesis they fall to
    either side like a coin.
    """
    pairs = list(zip(ours, theirs, strict=True))
    won, lost = pairs.count((True, False)), pairs.count((False, True))
    n = won + lost
    tail = sum(math.comb(n, k) for k in range(min(won, lost) + 1))
    return min(1.0, 2 * tail / (1 << n))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p-values corrected for how many were tried (Holm 1979), by the same names.

    Where those below 0.05 are called different, the chance of calling any wrongly is at most 5%.
    """
    corrected: dict[str, float] = {}
    floor = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        floor = max(floor, min(1.0, p_values[name] * (len(p_values) - rank)))
        corrected[name] = floor
    return {name: corrected[name] for name in p_values}


def noise_floor(relations: Sequence[Relation]) -> Rate:
    """How often a build differs from itself: the relations are between two askings of it."""
    return intervals.rate([relation == "different" for relation in relations])


def above_noise(different: Rate, floor: Rate) -> bool:
    """Whether a build differs from f16 more often than a build does from itself, for certain."""
    return different.low > floor.high


def not_worse(ours: Sequence[float], theirs: Sequence[float], margin: float) -> NotWorse:
    """Non-inferiority on the same cases, scored in 0..1: it is shown when the lower end of the
    paired 95% interval lies above `-margin`. That is the usual, cautious reading of "with 95%
    certainty": an error on this side alone has a chance of 2.5%."""
    gain = intervals.gain(ours, theirs)
    return NotWorse(passed=bool(ours) and gain.low > -margin, margin=margin, gain=gain)


def discordant(ours: Sequence[bool], theirs: Sequence[bool]) -> Rate:
    """The share of cases that one got right and the other wrong."""
    return intervals.rate([a != b for a, b in zip(ours, theirs, strict=True)])


def cases_needed(difference: float, discordant: float) -> int:
    """How many cases show a `difference` between two paired proportions (all in 0..1), at 5% and
    with a power of 80%.

    Connor (1987), equation 1: (z_a sqrt(d) + z_b sqrt(d - D^2))^2 / D^2 for a difference D and a
    share d of discordant cases, which cannot be below D.
    """
    share = max(discordant, difference)
    root = Z * math.sqrt(share) + Z_POWER * math.sqrt(share - difference * difference)
    return math.ceil(root * root / (difference * difference))


def detectable(cases: int, discordant: float) -> float:
    """The least difference that so many cases show, by the same formula; 1 where none is."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if cases_needed(middle, discordant) <= cases else (middle, high)
    return high


def power_in_words(cases: int, difference: float, discordant: float) -> str:
    """What `cases` can tell of a `difference`, for a person."""
    needed = cases_needed(difference, discordant)
    if needed <= cases:
        return f"{cases} cases are enough to tell a difference of {difference:.1%}."
    return (
        f"With {cases} cases you can't tell a difference of {difference:.1%}; you need {needed}. "
        f"These can tell {detectable(cases, discordant):.1%} (4 times in 5)."
    )


def kappa(one: Sequence[str], other: Sequence[str]) -> Kappa:
    """Cohen's kappa (1960) of two raters' categories, with its 95% interval: that of Wilson for
    how often they agree, with the agreement of chance taken as known.

    Where both give one category to everything, chance explains all agreement, and kappa is 0.
    """
    n = len(one)
    agreed = intervals.rate([a == b for a, b in zip(one, other, strict=True)])
    chance = sum(one.count(name) * other.count(name) for name in set(one)) / max(n * n, 1)
    if n == 0 or chance == 1:
        return Kappa(value=0.0, low=-1.0, high=1.0, n=n)
    value, low, high = (
        max(-1.0, (share - chance) / (1 - chance))
        for share in (agreed.value, agreed.low, agreed.high)
    )
    return Kappa(value=round(value, 6), low=round(low, 6), high=round(high, 6), n=n)
