"""The decision: pure, from the facts and the price table to a verdict that explains itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from residency.decide import grounds, rules
from residency.decide.alternatives import alternatives
from residency.decide.draws import SEED
from residency.decide.facts import Facts, Load, Task
from residency.decide.money import Money, Outlook, forecast, outlook
from residency.decide.prices import Ends, Prices
from residency.decide.rules import Fired
from residency.errors import InputError
from residency.models.memory import Part

Verdict = Literal["api", "slm", "hybrid", "unknown"]

_SMALLER = (3.0, 1.0, 0.5, 0.135)  # billions of weights of common base models
_EASIEST: tuple[Task, ...] = ("classification", "questions", "reasoning")


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryDecision:
    """`bill` is money a month; shares are of all calls and of the whole bill; `order` counts from 1
    among those that move. `latency` and `after` are seconds (p95 at the API; estimated at home);
    `worth` is the share of right answers from which moving it is worth while."""

    name: str
    task: Task
    verdict: Verdict
    path: str
    examples: int
    needed: tuple[int, int]
    alike: float | None
    bill: float
    share_calls: float
    share_bill: float
    order: int | None
    latency: float | None
    after: Ends | None
    worth: float | None
    fired: tuple[Fired, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Flip:
    """One fact that, changed from `now` to `then` alone, makes the decision `verdict`."""

    fact: str
    now: str
    then: str
    verdict: Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """`results` names the findings that ended the matter for a category; `moved_*` are shares of
    the whole. Where nothing moves, `path` and `engine` are `none` and `memory` is empty."""

    verdict: Verdict
    results: tuple[str, ...]
    categories: tuple[CategoryDecision, ...]
    path: str
    billions: float
    memory: tuple[Part, ...]
    engine: str
    money: Money
    outlook: Outlook
    moved_calls: float
    moved_bill: float
    flips: tuple[Flip, ...]
    fired: tuple[Fired, ...]
    as_of: str
    currency: str
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Settled:
    """The verdicts, without what explains and equips them."""

    verdict: Verdict
    category: Mapping[str, tuple[Fired, ...]]
    plan: tuple[Fired, ...]
    moved: tuple[Load, ...]
    money: Money


def decide(facts: Facts, prices: Prices, seed: int = SEED) -> Decision:
    """Whether each load, and all of them, should move to a small model, and how.

    Raises `InputError` for an API model or a machine that the price table does not have.
    """
    settled = _settle(facts, prices, seed)
    moved, money = settled.moved, settled.money
    known = grounds.plan(money, moved, facts, prices)
    path = rules.fired("path", known) if moved else ()
    engine = rules.fired("engine", known) if moved else ()
    categories = tuple(_categories(settled, path, facts, prices))
    reach = grounds.within_reach(facts, moved, money.billions, prices)
    found = (held[0].result for held in settled.category.values())
    mine = [one for one in categories if one.order]
    return Decision(
        verdict=settled.verdict,
        results=tuple(dict.fromkeys(filter(None, found))),
        categories=categories,
        path=_outcome(path),
        billions=money.billions if moved else 0.0,
        memory=grounds.memory(moved, money.billions).parts if moved else (),
        engine=_outcome(engine),
        money=money,
        outlook=outlook(facts, moved, reach, money.billions, seed=seed),
        moved_calls=sum(one.share_calls for one in mine),
        moved_bill=sum(one.share_bill for one in mine),
        flips=tuple(_flips(settled.verdict, facts, prices, seed)),
        fired=settled.plan + path + engine + rules.fired("note", known),
        as_of=prices.as_of.isoformat(),
        currency=prices.currency,
        seed=seed,
    )


def _settle(facts: Facts, prices: Prices, seed: int) -> _Settled:
    known = {load.name: grounds.category(load, facts, prices) for load in facts.loads}
    category = {name: rules.fired("category", values) for name, values in known.items()}
    may = [load for load in facts.loads if _outcome(category[load.name]) == "slm"]
    free = [load for load in may if not known[load.name]["forced"]]
    moved, money = may, _money(facts, may, prices, seed)
    plan: tuple[Fired, ...] = ()
    if free:
        moved, money, plan, left = _paying(facts, may, free, prices, seed)
        stays = (load.name for load in may if load not in moved)
        category |= {name: _overruled(left, category[name]) for name in stays}
    return _Settled(
        verdict=_overall(category, facts, prices),
        category=category,
        plan=plan,
        moved=tuple(moved),
        money=money,
    )


def _paying(
    facts: Facts, may: list[Load], free: list[Load], prices: Prices, seed: int
) -> tuple[list[Load], Money, tuple[Fired, ...], tuple[Fired, ...]]:
    """What moves of `may`, its money, the rules for it and the rules against what is left.

    All of it if that pays; else without the hardest tasks of what is `free` to stay, which need the
    largest model; else only what is not free.
    """
    against: tuple[Fired, ...] = ()
    tasks = sorted({load.task for load in free}, key=_EASIEST.index)
    for count in range(len(tasks), 0, -1):
        some = [load for load in may if load not in free or load.task in tasks[:count]]
        money = _money(facts, some, prices, seed)
        plan = rules.fired("plan", grounds.plan(money, some, facts, prices))
        if _outcome(plan) == "slm":
            return some, money, plan, against
        against = against or plan
    some = [load for load in may if load not in free]
    return some, _money(facts, some, prices, seed), (), against


def _overruled(by: tuple[Fired, ...], held: tuple[Fired, ...]) -> tuple[Fired, ...]:
    return by + tuple(replace(one, decided=False) for one in held)


def _money(facts: Facts, moved: Sequence[Load], prices: Prices, seed: int) -> Money:
    size = _size(facts, moved, prices)
    table = grounds.within_reach(facts, moved, size, prices)
    return forecast(facts, moved, table, size, seed=seed)


def _size(facts: Facts, moved: Sequence[Load], prices: Prices) -> float:
    """Billions of weights for the hardest task, or as many as the memory at hand holds."""
    tasks = {load.task for load in moved} or {_EASIEST[0]}
    size = max(getattr(prices.sizes, task) for task in tasks)
    if facts.memory is None or grounds.memory(moved, size).total <= facts.memory:
        return float(size)
    fits = [s for s in _SMALLER if s < size and grounds.memory(moved, s).total <= facts.memory]
    return max(fits, default=_SMALLER[-1])


def _overall(category: Mapping[str, tuple[Fired, ...]], facts: Facts, prices: Prices) -> Verdict:
    """Where nothing moves: `unknown` if most of the money is where that is the answer."""
    kinds = {_outcome(held) for held in category.values()}
    if "slm" in kinds:
        return "slm" if kinds == {"slm"} or facts.at_home else "hybrid"
    bills = {load.name: grounds.bill(load, facts, prices) for load in facts.loads}
    unknown = sum(bills[name] for name, held in category.items() if _outcome(held) == "unknown")
    return "unknown" if kinds == {"unknown"} or unknown > sum(bills.values()) / 2 else "api"


def _categories(
    settled: _Settled, path: tuple[Fired, ...], facts: Facts, prices: Prices
) -> Iterator[CategoryDecision]:
    bills = {load.name: grounds.bill(load, facts, prices) for load in facts.loads}
    whole, calls = sum(bills.values()) or 1.0, sum(load.calls for load in facts.loads) or 1.0
    money = settled.money
    machine = prices.machines.get(money.machine)
    order = [load.name for load in sorted(settled.moved, key=lambda one: -_promise(one, bills))]
    for load in sorted(facts.loads, key=lambda one: -bills[one.name]):
        moves = load in settled.moved
        fired = settled.category[load.name]
        yield CategoryDecision(
            name=load.name,
            task=load.task,
            verdict=cast(Verdict, _outcome(fired)),
            path=_outcome(path) if moves else "none",
            examples=load.examples,
            needed=grounds.EXAMPLES[load.task],
            alike=load.alike,
            bill=bills[load.name],
            share_calls=load.calls / calls,
            share_bill=bills[load.name] / whole,
            order=order.index(load.name) + 1 if moves else None,
            latency=load.p95,
            after=grounds.own_seconds(load, machine, money.billions, prices)
            if machine and moves
            else None,
            worth=_worth(load, bills, settled, facts) if moves else None,
            fired=fired,
        )


def _promise(load: Load, bills: Mapping[str, float]) -> float:
    """Money by risk: what it costs, times how alike its answers are (a half if not known)."""
    return bills[load.name] * (0.5 if load.alike is None else load.alike)


def _worth(load: Load, bills: Mapping[str, float], settled: _Settled, facts: Facts) -> float | None:
    """The quality asked, or more: a wrong answer is asked again of the API, so that as large a
    share must be right as its part of the own cost (by calls) is of its bill."""
    if facts.at_home or not bills[load.name]:
        return facts.quality
    part = load.calls / sum(one.calls for one in settled.moved)
    return min(1.0, max(facts.quality or 0.0, settled.money.own.mid * part / bills[load.name]))


def _outcome(fired: tuple[Fired, ...]) -> str:
    return fired[0].gives if fired else "none"


def _flips(verdict: Verdict, facts: Facts, prices: Prices, seed: int) -> Iterator[Flip]:
    for fact, now, then, changed in alternatives(facts, prices):
        try:
            new = _settle(changed, prices, seed).verdict
        except InputError:  # the price table has no machine for it
            continue
        if new != verdict:
            yield Flip(fact=fact, now=now, then=then, verdict=new)
