"""What moving costs and saves, as ranges: a Monte Carlo over everything that is not known.

Each input is a range of the price table. It is drawn 10,000 times, and every draw is followed month
by month over the table's horizon.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from residency.decide.facts import MONTH, Facts, Load
from residency.decide.prices import Ends, Machine, Prices, named
from residency.errors import InputError

Array = npt.NDArray[np.float64]

DRAWS = 10_000
_NORMAL_95 = NormalDist().inv_cdf(0.95)
# Where a symmetric triangle of width w has its 5% point x: 2 (x/w)^2 = 0.05.
_TRIANGLE_5 = math.sqrt(0.05 / 2)
_SHARES = ("cached", "leakage", "utilisation")


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """5%, 50% and 95% of the draws."""

    low: float
    mid: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Swing:
    """The monthly saving with the input `name` at its 5% and its 95% end, all others at their
    medians."""

    name: str
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Money:
    """Money of an average month of the first year, in the price table's currency.

    `api` is the bill of all loads as it is; `own` what running the moved ones costs, with all
    capital written off; `after` the whole bill after the move; `saving` the difference. `capital`
    is paid at the start. `break_even` is the month in which the capital has come back, over the
    draws in which it does, None where fewer than half do; `pays_back` is the share that does within
    `horizon` months. `a_million_api` and `a_million_own` are for a million of the calls that move,
    None where there are none. `machines` is how many of `machine` it takes for a model of
    `billions` weights.
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
class Bill:
    """Money a month: `known` whatever is cached, `fresh` and `cached` if no or all prompts are."""

    known: float
    fresh: float
    cached: float

    def at(self, share: Array) -> Array:
        return self.known + self.fresh * (1 - share) + self.cached * share


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """What moves: calls and tokens of a month, and the bills of it and of everything."""

    calls: float
    prompts: float
    answers: float
    loads: int
    moved: Bill
    whole: Bill


@dataclass(frozen=True, kw_only=True, slots=True)
class _Course:
    """A row for each draw, a column for each month; `capital` has a figure for each draw."""

    calls: Array
    whole: Array
    moved: Array
    own: Array
    after: Array
    machines: Array
    capital: Array
    balance: Array


def forecast(
    facts: Facts,
    moved: Sequence[str],
    prices: Prices,
    seed: int = 17,
    *,
    billions: float | None = None,
) -> Money:
    """What it costs and saves to run the loads named `moved` on a model of one's own.

    `billions` of weights follow from the hardest task of the moved loads where they are not given.
    Without a machine in `facts` the cheapest that can run the model is taken, a bought one where
    data may not leave. Raises `InputError` for an unknown load, API model or machine.
    """
    work = _work(facts, moved, prices)
    size = billions or _size(facts, moved, prices)
    name = facts.machine or _cheapest(facts, work, size, prices)
    inputs = _inputs(facts, named(prices.machines, name, "machine"), size, prices)
    course = _course({k: _drawn(k, ends, seed) for k, ends in inputs.items()}, work, prices.horizon)
    year = min(12, prices.horizon)
    served, own = course.calls[:, :year].mean(axis=1), course.own[:, :year].mean(axis=1)
    whole, after = course.whole[:, :year].mean(axis=1), course.after[:, :year].mean(axis=1)
    months = _months_to_pay_back(course.balance)
    paid = np.isfinite(months)
    return Money(
        machine=name if moved else "",
        billions=size,
        horizon=prices.horizon,
        machines=_range(course.machines[:, :year].max(axis=1)),
        api=_range(whole),
        own=_range(own),
        after=_range(after),
        saving=_range(whole - after),
        break_even=_range(months[paid]) if paid.mean() >= 0.5 else None,
        pays_back=float(paid.mean()),
        a_million_api=_a_million(course.moved[:, :year].mean(axis=1), served),
        a_million_own=_a_million(own, served),
        capital=_range(course.capital),
        swings=_swings(inputs, work, prices.horizon),
    )


def _work(facts: Facts, moved: Sequence[str], prices: Prices) -> _Work:
    loads = {load.name: load for load in facts.loads}
    some = [named(loads, name, "load") for name in moved]
    return _Work(
        calls=sum(load.calls for load in some),
        prompts=sum(load.calls * load.prompt_tokens for load in some),
        answers=sum(load.calls * load.completion_tokens for load in some),
        loads=len(some),
        moved=bill_of(some, facts.api_model, prices),
        whole=bill_of(facts.loads, facts.api_model, prices),
    )


def bill_of(loads: Sequence[Load], model: str, prices: Prices) -> Bill:
    """What `loads` cost at the API: the log's figure, or that of the price table for `model`."""
    known = sum(load.cost for load in loads if load.cost is not None)
    priced = [load for load in loads if load.cost is None]
    if not priced:
        return Bill(known=known, fresh=0.0, cached=0.0)
    price = prices.api(model)
    prompts = sum(load.calls * load.prompt_tokens for load in priced) / 1e6
    answers = sum(load.calls * load.completion_tokens for load in priced) / 1e6
    return Bill(
        known=known + answers * price.output,
        fresh=prompts * price.input,
        cached=prompts * price.cached,
    )


def _size(facts: Facts, moved: Sequence[str], prices: Prices) -> float:
    tasks = {load.task for load in facts.loads if load.name in moved}
    return max((getattr(prices.sizes, task) for task in tasks), default=prices.sizes.classification)


def _cheapest(facts: Facts, work: _Work, billions: float, prices: Prices) -> str:
    costs = {}
    for name, machine in prices.machines.items():
        if prices.speed(machine, billions) and not (facts.at_home and machine.rented):
            inputs = _inputs(facts, machine, billions, prices)
            medians = {key: np.array([median(ends)]) for key, ends in inputs.items()}
            costs[name] = float(_course(medians, work, prices.horizon).own.mean())
    if not costs:
        raise InputError(
            f"no machine of the price table runs a model of {billions:g}B weights",
            hint="add one to prices.toml, or name one in the answers",
        )
    return min(costs, key=lambda name: costs[name])


def _inputs(facts: Facts, machine: Machine, billions: float, prices: Prices) -> dict[str, Ends]:
    """All that is uncertain, by name; a range of no width is a known figure."""
    speed = prices.speed(machine, billions)
    if speed is None:
        raise InputError(
            f"the machine {machine.about!r} has no speed for {billions:g}B weights",
            hint="choose a larger machine, or add its speed to prices.toml",
        )
    inputs: dict[str, Ends] = dict(prices.uncertain)
    inputs |= {key: getattr(machine, key) for key in ("price", "rent", "months")}
    inputs |= {"watts_busy": machine.watts_busy, "watts_idle": machine.watts_idle}
    inputs |= {"prompt_speed": speed.prompt, "answer_speed": speed.answer}
    mean = sum(load.calls for load in facts.loads) / MONTH
    if facts.peak and mean:
        ratio = max(1.0, facts.peak / 60 / mean)
        inputs["peak"] = (ratio, ratio)
    return inputs


def median(ends: Ends) -> float:
    """Of what is drawn from a range: the geometric mean of its ends, of a triangle their mean."""
    low, high = ends
    return math.sqrt(low * high) if low > 0 else (low + high) / 2


def _drawn(name: str, ends: Ends, seed: int) -> Array:
    """Draws of one input. Each has dice of its own, so that one range does not move the others."""
    low, high = ends
    dice = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if low == high:
        return np.full(DRAWS, low)
    if low > 0:
        spread = math.log(high / low) / (2 * _NORMAL_95)
        values = dice.lognormal(math.log(median(ends)), spread, DRAWS)
    else:
        beyond = _TRIANGLE_5 * (high - low) / (1 - 2 * _TRIANGLE_5)
        values = dice.triangular(low - beyond, median(ends), high + beyond, DRAWS)
    if name in _SHARES:
        values = np.clip(values, 0, 1)
    return values if name == "growth" else np.maximum(values, 0)


def _course(values: Mapping[str, Array], work: _Work, horizon: int) -> _Course:
    """Follow each draw month by month."""
    v: dict[str, Any] = {key: value[:, None] for key, value in values.items()}
    month = np.arange(horizon)[None, :]
    volume = (1 + v["growth"]) ** month
    rate = volume * v["tokens"] * v["api_price"] ** (month / 12)
    whole, moved = work.whole.at(v["cached"]) * rate, work.moved.at(v["cached"]) * rate
    if not work.loads:
        none = np.zeros_like(whole)
        return _Course(
            calls=none,
            whole=whole,
            moved=none,
            own=none,
            after=whole,
            machines=none,
            capital=none[:, 0],
            balance=none - 1,
        )
    kept = 1 - v["leakage"]
    seconds = work.prompts / v["prompt_speed"] + work.answers / v["answer_speed"]
    load = seconds * v["tokens"] * volume * kept / MONTH  # machines busy in the mean
    machines = np.maximum(1, np.ceil(load * v["peak"] / v["utilisation"]))
    build = v["staff_rate"] * (v["build_hours"] + v["build_more_hours"] * (work.loads - 1))
    running = machines * v["rent"] + _power(v, load, machines)
    running = running + v["staff_rate"] * (v["staff_hours"] + v["retraining_hours"])
    own = running + machines * v["price"] / v["months"] + build / horizon
    rest = whole - moved * kept
    bought = _purchases(machines, v["months"], month) * v["price"]
    return _Course(
        calls=work.calls * volume * kept,
        whole=whole,
        moved=moved * kept,
        own=own,
        after=rest + own,
        machines=machines,
        capital=bought[:, 0] + build[:, 0],
        balance=np.cumsum(whole - rest - running - bought, axis=1) - build,
    )


def _power(v: Mapping[str, Any], load: Array, machines: Array) -> Array:
    busy = np.minimum(load / machines, 1)
    watts = v["watts_idle"] + (v["watts_busy"] - v["watts_idle"]) * busy
    return np.asarray(machines * watts / 1000 * (MONTH / 3600) * v["power"])


def _purchases(machines: Array, life: Array, month: npt.NDArray[np.int_]) -> Array:
    """How many machines are bought each month: the first ones, more as volume grows, and all of
    them again at the end of their life."""
    most = np.maximum.accumulate(machines, axis=1)
    more = np.diff(most, axis=1, prepend=0)
    again = (month > 0) & (month % np.maximum(1, np.round(life)) == 0)
    return np.asarray(np.where(again, most, more))


def _months_to_pay_back(balance: Array) -> Array:
    """The first month at whose end the balance is not negative; infinity where there is none."""
    paid = balance >= 0
    return np.where(paid.any(axis=1), paid.argmax(axis=1) + 1.0, np.inf)


def _range(values: Array) -> Range:
    low, mid, high = (float(value) for value in np.percentile(values, (5, 50, 95)))
    return Range(low=low, mid=mid, high=high)


def _a_million(cost: Array, calls: Array) -> Range | None:
    return _range(cost / calls * 1e6) if calls.min() > 0 else None


def _swings(inputs: Mapping[str, Ends], work: _Work, horizon: int) -> tuple[Swing, ...]:
    """The inputs that move the saving, the strongest first; their words as in the price table."""
    names = list(inputs)
    rows = {key: np.full(2 * len(names), median(inputs[key])) for key in names}
    for place, key in enumerate(names):
        rows[key][2 * place : 2 * place + 2] = inputs[key]
    course = _course(rows, work, horizon)
    saving = (course.whole - course.after)[:, :12].mean(axis=1)
    swings = [
        Swing(name=key.replace("_", " "), low=float(low), high=float(high))
        for key, (low, high) in zip(names, saving.reshape(-1, 2), strict=True)
        if low != high
    ]
    return tuple(sorted(swings, key=lambda swing: -abs(swing.high - swing.low)))
