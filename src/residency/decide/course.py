"""Bills and costs month by month, for each draw of what is not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from residency.decide.draws import Array
from residency.decide.facts import MONTH, Facts, Load
from residency.decide.prices import Prices


@dataclass(frozen=True, kw_only=True, slots=True)
class Bill:
    """Money a month: `known` whatever is cached, `fresh` and `cached` if no or all prompts are."""

    known: float
    fresh: float
    cached: float

    def at(self, share: Array) -> Array:
        return self.known + self.fresh * (1 - share) + self.cached * share


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What moves: calls and tokens of a month, and the bills of it and of everything."""

    calls: float
    prompts: float
    answers: float
    loads: int
    moved: Bill
    whole: Bill


def work_of(facts: Facts, moved: Sequence[Load], prices: Prices) -> Work:
    """Raises `InputError` for an API model that the price table does not have."""
    return Work(
        calls=sum(load.calls for load in moved),
        prompts=sum(load.calls * load.prompt_tokens for load in moved),
        answers=sum(load.calls * load.completion_tokens for load in moved),
        loads=len(moved),
        moved=bill_of(moved, facts.api_model, prices),
        whole=bill_of(facts.loads, facts.api_model, prices),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """A row for each draw, a column for each month; `capital` has a figure for each draw.

    `volume` (of calls) and `rate` (of bills) are multiples of the present. `served` counts the
    calls that are answered at home; `whole` is the bill if nothing moves, `left` what the API still
    gets after the move, `own` the cost of the own model with capital written off. `staying` and
    `moving` are all that was spent up to the month's end, with capital when it is paid.
    """

    volume: Array
    rate: Array
    served: Array
    whole: Array
    left: Array
    own: Array
    machines: Array
    capital: Array
    staying: Array
    moving: Array


def follow(values: Mapping[str, Array], work: Work, horizon: int) -> Course:
    """Follow each draw of the inputs over `horizon` months."""
    v: dict[str, Any] = {key: value[:, None] for key, value in values.items()}
    month = np.arange(horizon)[None, :]
    volume = (1 + v["growth"]) ** month
    rate = volume * v["tokens"] * v["api_price"] ** (month / 12)
    kept = 1 - v["leakage"]
    whole = work.whole.at(v["cached"]) * rate
    left = whole - work.moved.at(v["cached"]) * rate * kept
    seconds = work.prompts / v["prompt_speed"] + work.answers / v["answer_speed"]
    busy = seconds * v["tokens"] * volume * kept / MONTH  # machines busy in the mean
    some = float(work.loads > 0)
    machines = some * np.maximum(1, np.ceil(busy * v["peak"] / v["utilisation"]))
    hours = v["build_hours"] + v["build_more_hours"] * (work.loads - 1)
    build = some * v["staff_rate"] * hours
    people = some * v["staff_rate"] * (v["staff_hours"] + v["retraining_hours"])
    running = machines * v["rent"] + _power(v, busy, machines) + people
    bought = _purchases(machines, v["months"], month) * v["price"]
    return Course(
        volume=volume,
        rate=rate,
        served=work.calls * volume * kept,
        whole=whole,
        left=left,
        own=running + machines * v["price"] / v["months"] + build / horizon,
        machines=machines,
        capital=bought[:, 0] + build[:, 0],
        staying=np.cumsum(whole, axis=1),
        moving=np.cumsum(left + running + bought, axis=1) + build,
    )


def _power(v: Mapping[str, Any], busy: Array, machines: Array) -> Array:
    share = np.minimum(busy / np.maximum(machines, 1), 1)
    watts = v["watts_idle"] + (v["watts_busy"] - v["watts_idle"]) * share
    return np.asarray(machines * watts / 1000 * (MONTH / 3600) * v["power"])


def _purchases(machines: Array, life: Array, month: npt.NDArray[np.int_]) -> Array:
    """How many machines are bought each month: the first ones, more as volume grows, and all of
    them again at the end of their life."""
    most = np.maximum.accumulate(machines, axis=1)
    more = np.diff(most, axis=1, prepend=0)
    again = (month > 0) & (month % np.maximum(1, np.round(life)) == 0)
    return np.asarray(np.where(again, most, more))
