"""The forecast beside what happened: inside, moved, outside, not known, too early."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.decide import comparison
from residency.decide.comparison import Comparison, Figure, compare
from residency.decide.decision import Decision
from residency.decide.facts import MONTH, Facts
from residency.decide.predictions import Kept
from residency.types import Category, TrafficReport

Case = Callable[[str], tuple[Facts, Decision]]


@pytest.fixture
def kept(case: Case) -> Kept:
    facts, decision = case("support-desk")
    return Kept(created="2026-01-03T12:00:00.000+00:00", facts=facts, decision=decision)


def month(
    kept: Kept, calls: float = 1.0, cost: float = 1.0, days: float = MONTH / 86_400
) -> TrafficReport:
    """What is logged if every load asks and costs these multiples of what it did."""
    span = days * 86_400 / MONTH
    parts = [
        Category(
            name=load.name,
            calls=round(load.calls * calls * span),
            prompt_tokens=0,
            completion_tokens=0,
            cost=(load.cost or 0.0) * cost * span,
            p50=None,
            p95=None,
            errors=0,
            alike=None,
            examples=(),
        )
        for load in kept.facts.loads
    ]
    total = replace(
        parts[0], name="all", calls=sum(p.calls for p in parts), cost=sum(p.cost for p in parts)
    )
    return TrafficReport(
        first=0.0,
        last=days * 86_400,
        total=total,
        categories=tuple(parts),
        models={},
        personal={},
    )


def outcomes(found: Comparison, what: str) -> set[str]:
    return {one.outcome for one in found.figures if one.what == what}


def test_all_as_it_was_is_as_predicted(kept: Kept) -> None:
    found = compare(kept, month(kept))
    assert outcomes(found, "calls") == outcomes(found, "bill") == {"inside"}
    assert [one.category for one in found.figures[:2]] == ["", ""]
    moved = [one.name for one in kept.decision.categories if one.order]
    assert {one.category for one in found.figures[2:]} == set(moved)
    assert (found.early, found.created) == (False, kept.created)


def test_twice_the_calls_are_outside(kept: Kept) -> None:
    assert outcomes(compare(kept, month(kept, calls=2)), "calls") == {"outside"}


def test_a_bill_that_has_gone_is_that_of_the_move(kept: Kept) -> None:
    """Of the six that moved; the whole bill would keep that of the seventh."""
    found = compare(kept, month(kept, cost=0.05))
    assert {one.outcome for one in found.figures[2:] if one.what == "bill"} == {"moved"}


def test_what_the_report_does_not_name_is_not_known(kept: Kept) -> None:
    report = month(kept)
    gone = kept.decision.outlook.moved[0].name
    rest = tuple(one for one in report.categories if one.name != gone)
    found = compare(kept, replace(report, categories=rest))
    assert {one.outcome for one in found.figures if one.category == gone} == {"unknown"}


def test_a_log_without_costs_says_nothing_of_the_bill(kept: Kept) -> None:
    loads = tuple(replace(load, cost=None) for load in kept.facts.loads)
    report = month(kept, cost=0)
    assert "unknown" not in outcomes(compare(kept, report), "bill")
    bare = replace(kept, facts=replace(kept.facts, loads=loads))
    assert outcomes(compare(bare, report), "bill") == {"unknown"}


def test_a_few_days_are_too_early(kept: Kept) -> None:
    assert compare(kept, month(kept, days=13)).early
    assert not compare(kept, month(kept, days=14.1)).early


@given(calls=st.integers(1, 10**9), amount=st.floats(0.01, 1e9))
def test_more_calls_leave_less_to_chance(calls: int, amount: float) -> None:
    one = comparison._happened(calls, amount)
    more = comparison._happened(calls * 4, amount)
    assert one.low <= more.low <= amount * (1 + 1e-9)
    assert amount * (1 - 1e-9) <= more.high <= one.high


def test_figures_are_in_pairs(kept: Kept) -> None:
    figures: tuple[Figure, ...] = compare(kept, month(kept)).figures
    assert [one.what for one in figures] == ["calls", "bill"] * (len(figures) // 2)
