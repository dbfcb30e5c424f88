"""What the rules look at: the facts of a category and of a plan, by the names of `rules.toml`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from residency.decide.course import bill_of
from residency.decide.draws import median
from residency.decide.facts import MONTH, Facts, Load, Task
from residency.decide.money import Money
from residency.decide.prices import Ends, Machine, Prices
from residency.decide.rules import Value
from residency.models.memory import Need, need
from residency.models.shape import from_weights

# Examples to start from: the guide that this project follows.
EXAMPLES: dict[Task, tuple[int, int]] = {
    "classification": (100, 500),
    "questions": (500, 2000),
    "reasoning": (2000, 10_000),
}
LEVEL, SLOTS = "Q4_K_M", 4
# A lone request's share of the tokens/s that a machine makes for all its users: 81 of 148 on two
# cores (bench/engines.py); on a GPU a judgement of ours, from memory bandwidth.
_ALONE_CPU, _ALONE_GPU = 81 / 148, 1 / 20


def proven(facts: Facts) -> bool:
    """Whether a specialist has reached the quality that is asked."""
    return facts.reached is not None and facts.reached >= (facts.quality or 0.0)


def bill(load: Load, facts: Facts, prices: Prices) -> float:
    """Money a month at the API: the log's, or that of the price table with nothing cached."""
    one = bill_of([load], facts.api_model, prices)
    return one.known + one.fresh


def least_hours(prices: Prices) -> float:
    """Hours a month that running a model takes at the least."""
    return prices.uncertain.staff_hours[0] + prices.uncertain.retraining_hours[0]


def further(prices: Prices) -> float:
    """Money a month to teach one more category, written off over the horizon."""
    rate, hours = prices.uncertain.staff_rate, prices.uncertain.build_more_hours
    return median(rate) * median(hours) / prices.horizon


def peak(facts: Facts, loads: Sequence[Load], prices: Prices) -> float:
    """Requests in the busiest minute, as stated or from the mean one."""
    mean = sum(load.calls for load in loads) / (MONTH / 60)
    return facts.peak or mean * median(prices.uncertain.peak)


def own_seconds(load: Load, machine: Machine, billions: float, prices: Prices) -> Ends | None:
    """Seconds for a lone answer (estimated, at the quick and at the slow end of the machine's
    speed); None where the model is too large for the machine."""
    speed = prices.speed(machine, billions)
    if speed is None:
        return None
    alone = _ALONE_GPU if machine.gpu else _ALONE_CPU
    slow, quick = (
        load.prompt_tokens / speed.prompt[end]
        + load.completion_tokens / (speed.answer[end] * alone)
        for end in (0, 1)
    )
    return quick, slow


def within_reach(facts: Facts, loads: Sequence[Load], billions: float, prices: Prices) -> Prices:
    """The price table with the machines that can be had and are quick enough for `loads`.

    With all its machines where none is: the memo shows what latency they reach. Where the API is
    out of the question, no call falls back to it.
    """
    if facts.at_home:
        uncertain = prices.uncertain.model_copy(update={"leakage": (0.0, 0.0)})
        prices = prices.model_copy(update={"uncertain": uncertain})
    if facts.machine:
        return prices

    def suits(machine: Machine) -> bool:
        times = [own_seconds(load, machine, billions, prices) for load in loads]
        quick = facts.latency is None or all(t and t[1] <= facts.latency for t in times)
        return quick and (machine.gpu or not facts.gpu)

    some = {name: machine for name, machine in prices.machines.items() if suits(machine)}
    owned = any(not machine.rented for machine in some.values()) or not facts.at_home
    return prices.model_copy(update={"machines": some}) if some and owned else prices


def memory(loads: Sequence[Load], billions: float) -> Need:
    """What a model of `billions` of weights needs to answer these at `LEVEL`, `SLOTS` at once.

    A slot's context is twice the mean call, in steps of 1024 tokens, and at least 2048.
    """
    mean = max((load.prompt_tokens + load.completion_tokens for load in loads), default=0.0)
    context = max(2048, 1024 * math.ceil(2 * mean / 1024))
    return need(from_weights(round(billions * 1e9)), level=LEVEL, context=context, slots=SLOTS)


def category(load: Load, facts: Facts, prices: Prices) -> dict[str, Value]:
    """The facts of one category: those of `Load` and of `Facts`, and

    `home`: the API is out of the question; `proven`: the quality is reached; `bill`, `total_bill`,
    `upkeep` (the least that running a model costs) and `further` in money a month; `needed`:
    examples at least; `own_p95`: seconds on the quickest machine; `api_p95` in seconds; `forced`:
    it must move, whatever that costs.
    """
    billions = getattr(prices.sizes, load.task)
    home = facts.at_home
    machines = [m for m in prices.machines.values() if not (home and m.rented)]
    times = [own_seconds(load, machine, billions, prices) for machine in machines]
    late = facts.latency is not None and load.p95 is not None and load.p95 > facts.latency
    return _stated(facts, prices) | {
        "task": load.task,
        "alike": load.alike,
        "examples": load.examples,
        "api_p95": load.p95,
        "bill": bill(load, facts, prices),
        "total_bill": sum(bill(one, facts, prices) for one in facts.loads),
        "upkeep": least_hours(prices) * prices.uncertain.staff_rate[0],
        "further": further(prices),
        "needed": EXAMPLES[load.task][0],
        "own_p95": min((slow for _, slow in filter(None, times)), default=None),
        "forced": home or late,
    }


def plan(money: Money, moved: Sequence[Load], facts: Facts, prices: Prices) -> dict[str, Value]:
    """The facts of what moves, taken together: the medians of `Money`, and

    `moves`: something does; `machine` and whether it has a `gpu`; `peak` in requests a minute;
    `memory` at hand and `needed_memory` in GB; `foreign`: a language beside English is asked.
    """
    machine = prices.machines.get(money.machine)
    asked = max((getattr(prices.sizes, load.task) for load in moved), default=money.billions)
    return _stated(facts, prices) | {
        "moves": bool(moved),
        "pays_back": money.pays_back,
        "saving": money.saving.mid,
        "after": money.after.mid,
        "horizon": money.horizon,
        "machine": machine.about if machine else "",
        "gpu": machine.gpu if machine else facts.gpu,
        "peak": peak(facts, moved, prices),
        "needed_memory": memory(moved, asked).total / 1e9,
        "memory": None if facts.memory is None else facts.memory / 1e9,
        "foreign": any(language != "en" for language in facts.languages),
    }


def _stated(facts: Facts, prices: Prices) -> dict[str, Value]:
    plain = {f.name: getattr(facts, f.name) for f in dataclasses.fields(facts) if f.name != "loads"}
    return plain | {
        "languages": ", ".join(facts.languages),
        "currency": prices.currency,
        "home": facts.at_home,
        "proven": proven(facts),
        "least_hours": least_hours(prices),
    }
