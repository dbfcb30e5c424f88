from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.gate.statistics import (
    above_noise,
    cases_needed,
    detectable,
    discordant,
    holm,
    kappa,
    mcnemar,
    noise_floor,
    not_worse,
    power_in_words,
)

RIGHTS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60)


def sides(both: int, ours: int, theirs: int) -> tuple[list[bool], list[bool]]:
    """Answers right on both sides, on ours alone, on theirs alone."""
    return [True] * (both + ours) + [False] * theirs, [True] * both + [False] * ours + [
        True
    ] * theirs


def test_mcnemar_is_the_exact_binomial() -> None:
    # 1 of 9 discordant cases: 2 * (1 + 9) / 2**9, as R's binom.test(1, 9) says.
    assert mcnemar(*sides(20, 8, 1)) == pytest.approx(0.0390625)
    assert mcnemar(*sides(20, 4, 4)) == 1.0
    assert mcnemar([], []) == 1.0


@given(RIGHTS)
def test_mcnemar_does_not_care_who_is_first(pairs: list[tuple[bool, bool]]) -> None:
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    assert mcnemar(ours, theirs) == mcnemar(theirs, ours)
    assert mcnemar(ours, ours) == 1.0


def test_holm() -> None:
    # Holm (1979) by hand: 0.01 * 4, 0.015 * 3, 0.02 * 2 held up by the one before it, 0.5.
    corrected = holm({"b": 0.5, "a": 0.01, "c": 0.02, "d": 0.015})
    assert list(corrected) == ["b", "a", "c", "d"]
    assert corrected == pytest.approx({"b": 0.5, "a": 0.04, "c": 0.045, "d": 0.045})


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_lies_between_nothing_and_bonferroni(values: list[float]) -> None:
    tried = {str(n): value for n, value in enumerate(values)}
    for name, value in holm(tried).items():
        assert tried[name] <= value <= min(1.0, tried[name] * len(values))
    order = sorted(tried, key=lambda name: tried[name])
    assert [holm(tried)[n] for n in order] == sorted(holm(tried).values())


def test_a_build_against_itself_and_above_it() -> None:
    floor = noise_floor(["exact"] * 98 + ["similar"] + ["different"])
    assert floor.value == 0.01
    assert not above_noise(noise_floor(["different"] * 5 + ["exact"] * 95), floor)
    assert above_noise(noise_floor(["different"] * 30 + ["exact"] * 70), floor)


def test_not_worse_needs_the_whole_interval() -> None:
    ours, theirs = sides(490, 4, 6)
    judged = not_worse([float(x) for x in ours], [float(x) for x in theirs], 0.03)
    assert judged.passed
    assert judged.gain.value == pytest.approx(-0.004)
    assert not not_worse([float(x) for x in ours], [float(x) for x in theirs], 0.005).passed
    few = [1.0] * 20
    assert not not_worse(few, few, 0.03).passed  # equal so far, but 20 cases can't tell
    assert not not_worse([], [], 0.5).passed


def test_cases_needed_is_connors_formula() -> None:
    root = 1.959964 * math.sqrt(0.1) + 0.841621 * math.sqrt(0.1 - 0.0025)
    assert cases_needed(0.05, 0.1) == math.ceil((root / 0.05) ** 2)
    assert cases_needed(0.02, 0.001) == cases_needed(0.02, 0.02)


@given(st.integers(10, 5000), st.floats(0.0, 0.5))
def test_what_is_detectable_takes_that_many_cases(cases: int, share: float) -> None:
    least = detectable(cases, share)
    assert cases_needed(least, share) <= cases
    assert cases_needed(least * 0.99, share) >= cases


def test_in_words() -> None:
    share = discordant(*sides(57, 1, 2)).value
    assert share == 0.05
    said = power_in_words(60, 0.02, share)
    assert said.startswith("With 60 cases you can't tell a difference of 2.0%; you need 979.")
    assert power_in_words(979, 0.02, share) == (
        "979 cases are enough to tell a difference of 2.0%."
    )


def test_kappa() -> None:
    # Cohen's textbook table: 20 both yes, 15 both no, 5 and 10 apart: 0.7 agreed, 0.5 by chance.
    one = ["yes"] * 25 + ["no"] * 25
    other = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    found = kappa(one, other)
    assert found.value == pytest.approx(0.4)
    assert found.low < 0.2 < 0.55 < found.high
    assert kappa(one, one).value == 1.0
    assert kappa(["a"] * 9, ["a"] * 9).value == 0.0
    assert kappa([], []).n == 0
