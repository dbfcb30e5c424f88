from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.watch.sketch import ACCURACY, BINS, Sketch

SHARES = (0.0, 0.01, 0.5, 0.95, 0.99, 1.0)
VALUES = st.lists(
    st.one_of(st.just(0.0), st.floats(min_value=1e-6, max_value=1e6)), min_size=1, max_size=300
)


def sketch(values: list[float]) -> Sketch:
    made = Sketch()
    for value in values:
        made.add(value)
    return made


def exact(values: list[float], share: float) -> float:
    return sorted(values)[math.floor(share * (len(values) - 1))]


@given(VALUES)
def test_percentiles_are_those_of_the_values_to_one_percent(values: list[float]) -> None:
    found = sketch(values).quantiles(SHARES)
    for share in SHARES:
        assert found[share] == pytest.approx(exact(values, share), rel=ACCURACY * 1.0000001)


@given(VALUES, VALUES)
def test_merged_is_as_if_all_had_been_added(some: list[float], more: list[float]) -> None:
    both, whole = sketch(some), sketch(some + more)
    both.merge(sketch(more))
    assert both.quantiles(SHARES) == whole.quantiles(SHARES)
    assert (both.count, both.most) == (whole.count, whole.most)
    assert both.total == pytest.approx(whole.total)


@given(VALUES, st.floats(min_value=0.0, max_value=1e6))
def test_how_many_are_above(values: list[float], bound: float) -> None:
    found = sketch(values).above(bound)
    assert sum(one > bound * 1.0203 for one in values) <= found
    assert found <= sum(one > bound for one in values)


def test_of_nothing_nothing_is_known() -> None:
    assert Sketch().quantile(0.95) is None


def test_a_clock_that_went_back_counts_as_zero() -> None:
    assert sketch([-0.5, 3.0]).quantile(0.0) == 0.0


def test_memory_is_bounded_and_the_high_percentiles_stay() -> None:
    # 10^40 between the least and the largest: more bins than are kept.
    values = [10 ** (n / 100) for n in range(-2000, 2000)]
    made = sketch(values)
    assert len(made._bins) == BINS
    for share in (0.6, 0.95, 0.99):
        assert made.quantile(share) == pytest.approx(exact(values, share), rel=ACCURACY)
    assert made.count == len(values)
