"""Drift: silent on what chance does, found where there is any."""

import math
from collections import Counter

import numpy as np
import pytest

from residency.watch import drift
from residency.watch.drift import Days, Signal

KINDS = ("bill", "visit", "refill", "result", "parking")
SHARES = (0.4, 0.3, 0.15, 0.1, 0.05)


def days(
    random: np.random.Generator,
    first: int,
    count: int,
    calls: int,
    shares=SHARES,
    spread: float = 0,
) -> Days:
    """Days of about `calls`, whose shares wander from day to day by `spread`."""
    found = {}
    for day in range(first, first + count):
        wandering = np.array(shares) * np.exp(random.normal(0, spread, len(shares)))
        drawn = random.multinomial(random.poisson(calls), wandering / wandering.sum())
        found[day] = Counter(dict(zip(KINDS, map(int, drawn), strict=True)))
    return found


def one(before: Days, now: Days) -> Signal:
    (found,) = drift.signals({"category": (before, now)})
    return found


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_the_same_distribution_raises_no_alarm(spread: float) -> None:
    """A hundred and twenty comparisons, half of them with days that differ among themselves as no
    chance of single calls would make them."""
    random = np.random.default_rng(5)
    alarms = 0
    for _ in range(20):
        pairs = {
            name: (
                days(random, 0, 28, 60, spread=spread),
                days(random, 40, 7, 60, spread=spread),
            )
            for name in ("category", "length", "script")
        }
        alarms += sum(signal.drifted for signal in drift.signals(pairs))
    assert alarms == 0


def test_a_single_day_of_the_same_raises_none() -> None:
    random = np.random.default_rng(7)
    found = [one(days(random, 0, 28, 50), days(random, 40, 1, 200)) for _ in range(40)]
    assert {signal.dealt for signal in found} == {"calls"}
    assert not any(signal.drifted for signal in found)


@pytest.mark.parametrize(("calls", "spread"), [(40, 0.0), (200, 0.3)])
def test_a_shift_is_found_and_named(calls: int, spread: float) -> None:
    random = np.random.default_rng(11)
    shifted = (0.2, 0.3, 0.15, 0.1, 0.25)
    signal = one(
        days(random, 0, 28, calls, spread=spread),
        days(random, 40, 7, calls, shifted, spread=spread),
    )
    assert signal.drifted
    assert signal.bits > signal.floor
    assert signal.words.startswith(("bill: ", "parking: "))


def test_a_new_kind_is_found() -> None:
    random = np.random.default_rng(3)
    now = {
        day: counts + Counter({"vaccination": 20})
        for day, counts in days(random, 40, 7, 60).items()
    }
    signal = one(days(random, 0, 28, 60), now)
    assert signal.drifted and signal.before.get("vaccination", 0) == 0
    assert signal.now["vaccination"] == pytest.approx(0.25, abs=0.03)


def test_what_is_certain_but_small_is_no_alarm() -> None:
    random = np.random.default_rng(3)
    nearly = (0.42, 0.28, 0.15, 0.1, 0.05)
    signal = one(days(random, 0, 28, 9000), days(random, 40, 7, 9000, nearly))
    assert signal.p <= drift.CERTAIN and not signal.drifted


def test_too_few_calls_say_nothing() -> None:
    random = np.random.default_rng(3)
    few = {1: Counter(bill=drift.LEAST_CALLS - 1)}
    assert drift.signals({"category": (days(random, 0, 28, 60), few)}) == []
    assert drift.signals({"category": ({}, few)}) == []


def test_rare_values_beyond_the_most_are_one() -> None:
    many = {1: Counter({f"v{n}": 100 - n // 2 for n in range(200)})}
    signal = one(many, many)
    assert signal.bits == 0 and len(signal.now) == 60
    assert sum(signal.now.values()) == pytest.approx(1)


def test_the_divergence_is_that_of_the_definition() -> None:
    p, q = [5, 3, 0, 2], [1, 4, 4, 1]
    shares = [[v / 10 for v in counts] for counts in (p, q)]
    middle = [sum(pair) / 2 for pair in zip(*shares, strict=True)]
    expected = sum(
        v * math.log2(v / m) / 2
        for counts in shares
        for v, m in zip(counts, middle, strict=True)
        if v
    )
    assert drift.divergence(np.array(p), np.array(q)) == pytest.approx(expected)
    assert drift.divergence(np.array([1, 0]), np.array([0, 7])) == pytest.approx(1.0)
