"""What moving costs and saves, as ranges: a Monte Carlo over everything that is not known.

Each input is a range of the price table. It is drawn 10,000 times, and every draw is followed month
by month over the table's horizon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from residency.decide.course import Course, Work, bill_of, follow, work_of
from residency.decide.draws import SEED, Array, Range, draw, inputs, median, spread, spreads
from residency.decide.facts import Facts, Load
from residency.decide.prices import Ends, Prices, named
from residency.errors import InputError

_FEWEST = 1.0
"""Calls a month below which what a million cost says nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Swing:
    """The monthly saving with the input `name` at its 5% and its 95% end, all others at their
    medians."""

    name: str
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """A load (or all, without a name) in an average month of the first year: its calls, its `bill`
    at the API if it stays, and what is `left` of that after the move."""

    name: str
    calls: Range
    bill: Range
    left: Range


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """What is forecast to be seen. `staying` and `moving` are all that was spent up to the end of
    each month, with capital when it is paid."""

    whole: Expected
    moved: tuple[Expected, ...]
    staying: tuple[Range, ...]
    moving: tuple[Range, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Money:
    """Money of an average month of the first year, in the price table's currency.

    `api` is the bill of all loads as it is; `own` what running the moved ones costs, with all
    capital written off; `after` the whole bill after the move; `saving` the difference. `capital`
    is paid at the start. `break_even` is the month in which the capital has come back, over the
    draws in which it does, None where fewer than half do; `pays_back` is the share that does within
    `horizon` months. `a_million_api` and `a_million_own` are for a million of the calls that move,
    None where less than one a month does. `machines` is how many of `machine` it takes for a model
    of `billions` weights.
    """

    machine: str
    billions: float
    horizon: int
    machines: Range
    api: Range
    own: Range
    after: Range
    saving: Range
    break_even: Range | None
    pays_back: float
    a_million_api: Range | None
    a_million_own: Range | None
    capital: Range
    swings: tuple[Swing, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """The simulation of moving to `machine`: the inputs' ranges, their draws and what follows."""

    machine: str
    work: Work
    ranges: Mapping[str, Ends]
    draws: Mapping[str, Array]
    course: Course


def forecast(
    facts: Facts, moved: Sequence[Load], prices: Prices, billions: float, *, seed: int = SEED
) -> Money:
    """What it costs and saves to run the loads `moved` on a model of `billions` of weights.

    Without a machine in `facts` the cheapest that can run the model is taken, a bought one where
    data may not leave. Raises `InputError` for an unknown API model or machine.
    """
    run = _run(facts, moved, prices, billions, seed)
    course = run.course
    months = _months_to_pay_back(course) if moved else np.array([np.inf])
    paid = np.isfinite(months)
    served, own, whole, left = map(_year, (course.served, course.own, course.whole, course.left))
    return Money(
        machine=run.machine if moved else "",
        billions=billions,
        horizon=prices.horizon,
        machines=spread(course.machines[:, :12].max(axis=1)),
        api=spread(whole),
        own=spread(own),
        after=spread(left + own),
        saving=spread(whole - left - own),
        break_even=spread(months[paid]) if paid.mean() >= 0.5 else None,
        pays_back=float(paid.mean()),
        a_million_api=_a_million(whole - left, served),
        a_million_own=_a_million(own, served),
        capital=spread(course.capital),
        swings=_swings(run.ranges, run.work, prices.horizon),
    )


def outlook(
    facts: Facts, moved: Sequence[Load], prices: Prices, billions: float, *, seed: int = SEED
) -> Outlook:
    """What the same `forecast` says of each load and of each month."""
    run = _run(facts, moved, prices, billions, seed)
    course = run.course
    volume, rate = _year(course.volume), _year(course.rate)
    return Outlook(
        whole=Expected(
            name="",
            calls=spread(sum(load.calls for load in facts.loads) * volume),
            bill=spread(_year(course.whole)),
            left=spread(_year(course.left)),
        ),
        moved=tuple(
            Expected(
                name=load.name,
                calls=spread(load.calls * volume),
                bill=spread(bill),
                left=spread(bill * run.draws["leakage"]),
            )
            for load in moved
            for bill in [bill_of([load], facts.api_model, prices).at(run.draws["cached"]) * rate]
        ),
        staying=spreads(course.staying),
        moving=spreads(course.moving),
    )


def _run(facts: Facts, moved: Sequence[Load], prices: Prices, billions: float, seed: int) -> _Run:
    work = work_of(facts, moved, prices)
    name = facts.machine or _cheapest(facts, work, billions, prices)
    ranges = inputs(facts, named(prices.machines, name, "machine"), billions, prices)
    draws = {key: draw(key, ends, seed) for key, ends in ranges.items()}
    course = follow(draws, work, prices.horizon)
    return _Run(machine=name, work=work, ranges=ranges, draws=draws, course=course)


def _year(values: Array) -> Array:
    """The mean month of the first year."""
    return np.asarray(values[:, :12].mean(axis=1))


def _cheapest(facts: Facts, work: Work, billions: float, prices: Prices) -> str:
    costs = {}
    for name, machine in prices.machines.items():
        if prices.speed(machine, billions) and not (facts.at_home and machine.rented):
            ranges = inputs(facts, machine, billions, prices)
            medians = {key: np.array([median(ends)]) for key, ends in ranges.items()}
            costs[name] = float(follow(medians, work, prices.horizon).own.mean())
    if not costs:
        raise InputError(
            f"no machine of the price table runs a model of {billions:g}B weights",
            hint="add one to prices.toml, or name one in the answers",
        )
    return min(costs, key=lambda name: costs[name])


def _months_to_pay_back(course: Course) -> Array:
    """The first month at whose end moving has cost no more; infinity where there is none."""
    paid = course.moving <= course.staying
    return np.where(paid.any(axis=1), paid.argmax(axis=1) + 1.0, np.inf)


def _a_million(cost: Array, calls: Array) -> Range | None:
    return spread(cost / calls * 1e6) if calls.min() >= _FEWEST else None


def _swings(ranges: Mapping[str, Ends], work: Work, horizon: int) -> tuple[Swing, ...]:
    """The inputs that move the saving, the strongest first; their words as in the price table."""
    rows = {key: np.full(2 * len(ranges), median(ends)) for key, ends in ranges.items()}
    for place, (key, ends) in enumerate(ranges.items()):
        rows[key][2 * place : 2 * place + 2] = ends
    course = follow(rows, work, horizon)
    saving = _year(course.whole - course.left - course.own)
    swings = [
        Swing(name=key.replace("_", " "), low=float(low), high=float(high))
        for key, (low, high) in zip(ranges, saving.reshape(-1, 2), strict=True)
        if low != high
    ]
    return tuple(sorted(swings, key=lambda swing: -abs(swing.high - swing.low)))
