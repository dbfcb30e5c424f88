"""What the memo and the gate foresaw, beside what happened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from residency import releases
from residency.decide import comparison, predictions
from residency.decide.draws import Range
from residency.errors import ResidencyError
from residency.gate import intervals
from residency.store import Store
from residency.types import Category, Rate, Release, TrafficReport
from residency.watch.history import History

Outcome = Literal["inside", "better", "worse", "outside", "moved", "unknown"]
RIGHT = "exact"
"""The gate's rate that says how many answers are right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One figure: the ends of what was foreseen and of what happened (None where nothing tells),
    and who foresaw it. `inside` where the two meet."""

    what: str
    by: str
    foreseen: tuple[float, float]
    happened: tuple[float, float] | None
    outcome: Outcome
    unit: Literal["calls", "money", "seconds", "share"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Predicted:
    """`rows` of what could be compared; `missing` says in words what could not, and why."""

    rows: tuple[Row, ...]
    missing: tuple[str, ...]


def compare(workspace: Path, history: History, right: int, rated: int) -> Predicted:
    """The last decision before these calls, and the current release's verdict, beside the calls in
    `history`, `right` of whose `rated` answers were right."""
    rows: list[Row] = []
    missing: list[str] = []
    if not history.total.requests:
        return Predicted(rows=(), missing=("nothing happened in this time",))
    try:
        rows += _memo(workspace, history)
    except ResidencyError as error:
        missing.append(error.message)
    try:
        rows += _quality(releases.current(Store(workspace)), right, rated)
    except ResidencyError as error:
        missing.append(error.message)
    return Predicted(rows=tuple(rows), missing=tuple(missing))


def _memo(workspace: Path, history: History) -> Iterator[Row]:
    kept = predictions.last_before(workspace / "reports", history.first)
    tally = history.total
    p50, p95 = (tally.latency.quantile(share) for share in (0.5, 0.95))
    total = Category(
        name="all",
        calls=tally.requests,
        prompt_tokens=tally.prompt_tokens,
        completion_tokens=tally.completion_tokens,
        cost=tally.cost,
        p50=p50,
        p95=p95,
        errors=tally.requests - tally.answered,
        alike=None,
        examples=(),
    )
    report = TrafficReport(
        first=history.first, last=history.last, total=total, categories=(), models={}, personal={}
    )
    for one in comparison.compare(kept, report).figures:
        if one.category in ("", "all"):
            yield Row(
                what=f"{one.what} a month",
                by="memo",
                foreseen=(one.predicted.low, one.predicted.high),
                happened=_ends(one.happened),
                outcome=one.outcome,
                unit="calls" if one.what == "calls" else "money",
            )
    after = [one.after for one in kept.decision.categories if one.order and one.after]
    if after and p95 is not None:
        low, high = min(one[0] for one in after), max(one[1] for one in after)
        yield Row(
            what="seconds for 95 of 100 answers",
            by="memo",
            foreseen=(low, high),
            happened=(p95, p95),
            outcome="worse" if p95 > high else "better" if p95 < low else "inside",
            unit="seconds",
        )


def _ends(value: Range | None) -> tuple[float, float] | None:
    return (value.low, value.high) if value else None


def _quality(release: Release, right: int, rated: int) -> Iterator[Row]:
    """Of the rated answers: whoever rates chooses what to rate, so that this is no fair sample."""
    rate = release.verdict.figures.get(RIGHT)
    if rate is None:
        return
    happened = intervals.wilson(right / rated, rated) if rated else None
    yield Row(
        what="share of right answers",
        by=f"gate of {release.name}",
        foreseen=(rate.low, rate.high),
        happened=(happened.low, happened.high) if happened else None,
        outcome=_outcome(rate, happened),
        unit="share",
    )


def _outcome(foreseen: Rate, happened: Rate | None) -> Outcome:
    if happened is None:
        return "unknown"
    if happened.high < foreseen.low:
        return "worse"
    return "better" if happened.low > foreseen.high else "inside"
