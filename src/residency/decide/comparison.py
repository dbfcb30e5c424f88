"""What was forecast beside what happened since."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from residency.decide.answers import months
from residency.decide.draws import NORMAL_95, Range
from residency.decide.facts import MONTH
from residency.decide.money import Expected
from residency.decide.predictions import Kept
from residency.types import Category, TrafficReport

FEWEST_DAYS = 14
"""Days of calls below which a weekly rhythm may hide the rest."""
Outcome = Literal["inside", "moved", "outside", "unknown"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One figure of a month: `calls` or `bill` of `category`, of all where that is empty.

    `predicted` is for work that stays, `left` what is left of its bill after the move; `happened`
    spans what chance may have made of the calls (5% to 95%). The outcome is `inside` where it meets
    `predicted`, `moved` where it meets only `left`, `unknown` where the log says nothing of it.
    """

    category: str
    what: Literal["calls", "bill"]
    predicted: Range
    left: Range | None
    happened: Range | None
    outcome: Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """`days` is how long the calls since `created` span; `early` says that this is too short."""

    created: str
    currency: str
    days: float
    early: bool
    figures: tuple[Figure, ...]


def compare(kept: Kept, report: TrafficReport) -> Comparison:
    """The forecast's average month of the first year beside that of `report`, whose calls are all
    later: everything, then each category that was to move, looked for by its name."""
    outlook, span = kept.decision.outlook, months(report)
    seen = {one.name: one for one in report.categories}
    priced = {load.name for load in kept.facts.loads if load.cost is not None}
    figures = [*_figures(outlook.whole, report.total, span, bool(priced))]
    for one in outlook.moved:
        figures += _figures(one, seen.get(one.name), span, one.name in priced)
    days = span * MONTH / 86_400
    return Comparison(
        created=kept.created,
        currency=kept.decision.currency,
        days=days,
        early=days < FEWEST_DAYS,
        figures=tuple(figures),
    )


def _figures(one: Expected, seen: Category | None, span: float, priced: bool) -> Iterator[Figure]:
    """A bill of nought says nothing where the log had no costs before either (not `priced`)."""
    calls = _happened(seen.calls, seen.calls / span) if seen else None
    bill = _happened(seen.calls, seen.cost / span) if seen and (seen.cost or priced) else None
    yield Figure(
        category=one.name,
        what="calls",
        predicted=one.calls,
        left=None,
        happened=calls,
        outcome=_outcome(calls, one.calls, None),
    )
    yield Figure(
        category=one.name,
        what="bill",
        predicted=one.bill,
        left=one.left,
        happened=bill,
        outcome=_outcome(bill, one.bill, one.left),
    )


def _happened(calls: int, amount: float) -> Range:
    """`amount`, as wide as chance makes the count: the score interval of a Poisson mean."""
    z = NORMAL_95
    middle, half = calls + z**2 / 2, z * math.sqrt(calls + z**2 / 4)
    each = amount / calls
    return Range(low=(middle - half) * each, mid=amount, high=(middle + half) * each)


def _outcome(happened: Range | None, predicted: Range, left: Range | None) -> Outcome:
    if happened is None:
        return "unknown"
    if _meet(happened, predicted):
        return "inside"
    return "moved" if left and _meet(happened, left) else "outside"


def _meet(one: Range, other: Range) -> bool:
    return one.low <= other.high and other.low <= one.high
