from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.gate.intervals import gain, mean, rate, ratio, wilson

shares = st.floats(0.0, 1.0)
scores = st.lists(shares, min_size=1, max_size=60)


def test_wilson_matches_published_values() -> None:
    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for hits, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = wilson(hits / n, n)
        assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


def test_no_cases_mean_no_knowledge() -> None:
    assert (rate([]).low, rate([]).high, rate([]).n) == (0.0, 1.0, 0)
    assert (mean([]).low, mean([]).high) == (0.0, 1.0)
    assert (gain([], []).low, gain([], []).high) == (-1.0, 1.0)


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_a_rate_lies_in_its_interval(hits: list[bool]) -> None:
    found = rate(hits)
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    assert found.low < found.high
    assert found.n == len(hits)


@settings(max_examples=25, deadline=None)
@given(scores)
def test_a_mean_lies_in_its_interval(values: list[float]) -> None:
    found = mean(values)
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    assert math.isclose(found.value, sum(values) / len(values), abs_tol=2e-6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(shares, shares), min_size=1, max_size=60))
def test_a_gain_lies_in_its_interval(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = zip(*pairs, strict=True)
    found = gain(ours, theirs)
    assert -1.0 <= found.low <= found.value <= found.high <= 1.0


def test_equal_values_are_not_certain() -> None:
    assert mean([1.0] * 10).low == pytest.approx(0.722, abs=1e-3)
    lead = gain([1.0] * 10, [0.0] * 10)
    assert lead.value == 1.0
    assert 0.5 < lead.low < 0.8


def test_pairing_narrows_the_interval() -> None:
    ours = [1.0, 0.0] * 30
    theirs = [*([0.0, 0.0] * 3), *([1.0, 0.0] * 27)]
    lead = gain(ours, theirs)
    apart = math.hypot(mean(ours).high - mean(ours).low, mean(theirs).high - mean(theirs).low)
    assert lead.value == pytest.approx(0.05)
    assert lead.high - lead.low < apart / 2


def test_repeats_are_the_same() -> None:
    values = [0.1, 0.5, 0.9, 0.3]
    assert mean(values) == mean(values)


def test_the_bootstrap_agrees_with_the_normal_interval() -> None:
    values = [(i * 37 % 101) / 100 for i in range(300)]
    average = sum(values) / len(values)
    spread = math.sqrt(sum((v - average) ** 2 for v in values) / len(values) / len(values))
    found = mean(values)
    assert found.low == pytest.approx(average - 1.96 * spread, abs=0.004)
    assert found.high == pytest.approx(average + 1.96 * spread, abs=0.004)


def test_a_ratio_is_of_pairs() -> None:
    ours, theirs = [2.0, 20.0, 0.2, 2.2, 1.8], [1.0, 10.0, 0.1, 1.0, 1.0]
    found = ratio(ours, theirs)
    assert found.value == pytest.approx((2 * 2 * 2 * 2.2 * 1.8) ** 0.2, abs=1e-5)
    assert 1.8 < found.low <= found.value <= found.high < 2.2
    back = ratio(theirs, ours)
    assert back.value == pytest.approx(1 / found.value, abs=1e-5)
