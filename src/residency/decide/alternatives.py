"""What each fact could be instead, to see which one alone would change a decision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from residency.decide.facts import Facts
from residency.decide.grounds import EXAMPLES, least_hours
from residency.decide.prices import Prices

Alternative = tuple[str, str, str, Facts]


def alternatives(facts: Facts, prices: Prices) -> Iterator[Alternative]:
    """The fact in words, what it is now, what it could be, and the facts with that change.

    The nearer ones come first. A fact that is as its alternative already is left out.
    """
    yield from _constraints(facts)
    yield from _evidence(facts)
    for factor, words in ((2, "twice"), (0.5, "half"), (10, "10 times"), (0.1, "a tenth of")):
        yield "volume", "as it is", f"{words} the calls", _volume(facts, factor)
    hours, least = facts.team_hours, least_hours(prices)
    now = "not stated" if hours is None else f"{hours:g} a month"
    enough = hours is None or hours >= least
    then = "none" if enough else f"{least:g} a month"
    yield "team hours", now, then, replace(facts, team_hours=0.0 if enough else least)


def _constraints(facts: Facts) -> Iterator[Alternative]:
    if facts.at_home:
        now = "they may not" if not facts.may_leave else "it must work offline"
        yield "data may leave", now, "they may", replace(facts, may_leave=True, offline=False)
    else:
        yield "data may leave", "they may", "they may not", replace(facts, may_leave=False)
    if facts.latency is not None:
        now = f"{facts.latency:g} s"
        yield "latency wanted", now, "none", replace(facts, latency=None)
        half = facts.latency / 2
        yield "latency wanted", now, f"{half:g} s", replace(facts, latency=half)
    elif any(load.p95 for load in facts.loads):
        yield "latency wanted", "none", "0.5 s", replace(facts, latency=0.5)


def _evidence(facts: Facts) -> Iterator[Alternative]:
    bar = facts.quality
    if bar is not None and bar > 0.01:
        now = "not measured" if facts.reached is None else f"{facts.reached:.0%}"
        good = facts.reached is None or facts.reached >= bar
        changed = replace(facts, reached=bar - 0.01 if good else bar)
        then = f"under {bar:.0%}" if good else f"{bar:.0%}"
        yield "quality that a specialist reaches", now, then, changed
    if any(load.examples < EXAMPLES[load.task][0] for load in facts.loads):
        yield "examples", "as they are", "enough for each category", _enough(facts)
    else:
        yield "examples", "enough for each category", "a tenth", _tenth(facts)
    if facts.notation:
        now = "one that no base model has seen"
        yield "notation", now, "a common one", replace(facts, notation=False)
        corpus = f"{facts.corpus:,.0f} tokens"
        yield "corpus", corpus, "5 billion tokens", replace(facts, corpus=5e9)


def _volume(facts: Facts, factor: float) -> Facts:
    peak = facts.peak and facts.peak * factor
    loads = tuple(
        replace(load, calls=load.calls * factor, cost=load.cost and load.cost * factor)
        for load in facts.loads
    )
    return replace(facts, loads=loads, peak=peak)


def _enough(facts: Facts) -> Facts:
    loads = (replace(one, examples=max(one.examples, EXAMPLES[one.task][0])) for one in facts.loads)
    return replace(facts, loads=tuple(loads))


def _tenth(facts: Facts) -> Facts:
    loads = (replace(one, examples=one.examples // 10) for one in facts.loads)
    return replace(facts, loads=tuple(loads))
