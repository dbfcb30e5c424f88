"""What is wrong now: one pure function a rule, from facts to findings.

A rule that has found something lets go at nine tenths of its bound (`firing`), so that a value at
the bound is one alert and not twenty.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from residency.config import WatchSettings
from residency.gate.intervals import wilson
from residency.watch.alerts import Finding, Key, Severity
from residency.watch.growth import Reading, slope, steady
from residency.watch.samples import Sample
from residency.watch.windows import Piece, Tally

EASE = 0.9
REQUESTS = 20
"""Of fewer answers no percentile is told."""
COMPARED = 50
"""Of fewer none is compared with the usual. Where answers differ as much as those of a lognormal
distribution with a sigma of 1, chance then doubles a p95 for certain less than once in a month."""
FAILURES = 3
PAST = 6
"""Pieces of five minutes that make up what is usual."""
TIMES = 2.0
"""So many times the usual is too slow."""
QUICK = 0.002
"""Seconds for a token of which nobody would notice that they are twice the usual."""
BUSIER = 1.25
GROWTH_MINUTES = 20
GROWTH_SHARE, GROWTH_BYTES = 0.1, 32_000_000
"""A leak has grown by this share of the memory, and by so many bytes, since the first reading."""
DISK_HOURS = 6.0
BUDGET_WARN, BUDGET_PAGE = 0.8, 0.95
HERE = "gateway"
_HOUR = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """What has moved away from what it was: `value` is beyond `bound` for certain. `where` is its
    name. See `Finding`."""

    where: str
    value: float
    bound: float
    words: str
    first: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """All that the rules look at.

    `recent` is what the last five minutes had, by model; `past` their five minutes before that;
    `memory` the bytes of each process and `disk` the free bytes, a reading a minute; `drift` what
    was found of it.
    """

    recent: Mapping[str, Tally]
    past: Mapping[str, Sequence[Piece]] = field(default_factory=dict)
    sample: Sample | None = None
    memory: Mapping[str, tuple[Reading, ...]] = field(default_factory=dict)
    disk: tuple[Reading, ...] = ()
    drift: Sequence[Drift] = ()


Rule = Callable[[Facts, WatchSettings, Collection[Key]], Iterator[Finding]]


def findings(facts: Facts, settings: WatchSettings, firing: Collection[Key]) -> list[Finding]:
    """What all rules find; `firing` are the alerts that there are."""
    return [one for rule in RULES for one in rule(facts, settings, firing)]


def slow(facts: Facts, settings: WatchSettings, firing: Collection[Key]) -> Iterator[Finding]:
    """p95 above the bound of the settings, for certain."""
    if settings.p95 is None:
        return
    for model, tally in facts.recent.items():
        bound = settings.p95 * _eased("slow", model, firing)
        if tally.latency.count >= REQUESTS and _late(tally, bound):
            p95 = tally.latency.quantile(0.95) or 0.0
            yield Finding(
                rule="slow", where=model, severity="warn", value=p95, bound=settings.p95,
                words=f"95 of 100 answers of {model} took up to {p95:.2f} s in the last five "
                f"minutes; the bound is {settings.p95:g} s",
                first=_why_slow(tally),
            )  # fmt: skip


def slower(facts: Facts, settings: WatchSettings, firing: Collection[Key]) -> Iterator[Finding]:
    """p95 twice as long as it usually is, for certain. The usual is the median of the pieces of a
    day, which an hour of trouble does not move."""
    for model, tally in facts.recent.items():
        past = facts.past.get(model, ())
        if len(past) < PAST or tally.latency.count < COMPARED:
            continue
        usual = statistics.median(one.p95 for one in past)
        if _late(tally, TIMES * usual * _eased("slower", model, firing)):
            p95 = tally.latency.quantile(0.95) or 0.0
            yield Finding(
                rule="slower", where=model, severity="warn", value=p95, bound=TIMES * usual,
                words=f"95 of 100 answers of {model} took up to {p95:.2f} s in the last five "
                f"minutes, {p95 / usual:.1f} times the usual {usual:.2f} s",
                first=_why_slow(tally),
            )  # fmt: skip


def speed(facts: Facts, settings: WatchSettings, firing: Collection[Key]) -> Iterator[Finding]:
    """Tokens a second of an answer fallen to half, while all answers together have no more of them
    than usual: more users at once make each wait, and that is no fault."""
    for model, tally in facts.recent.items():
        past = [one for one in facts.past.get(model, ()) if one.per_token]
        now = tally.per_token.quantile(0.5)
        if not now or len(past) < PAST or tally.per_token.count < REQUESTS:
            continue
        usual = statistics.median(one.per_token or 0.0 for one in past)
        busier = tally.completion_tokens > BUSIER * statistics.median(one.tokens for one in past)
        if now > max(QUICK, TIMES * usual * _eased("speed", model, firing)) and not busier:
            yield Finding(
                rule="speed", where=model, severity="warn", value=1 / now, bound=1 / usual / TIMES,
                words=f"answers of {model} come at {1 / now:.1f} tokens a second, usually at "
                f"{1 / usual:.1f}",
                first="look for another process that takes the cores (top), then at engine.threads",
            )  # fmt: skip


def errors(facts: Facts, settings: WatchSettings, firing: Collection[Key]) -> Iterator[Finding]:
    """Too many requests failed, for certain: at least `FAILURES`, and the lower end of Wilson's 95%
    interval is beyond the bound, so that the first one of a quiet night wakes nobody."""
    for model, tally in facts.recent.items():
        if tally.failed < FAILURES:
            continue
        rate = tally.failed / tally.requests
        low = wilson(rate, tally.requests).low
        ease = _eased("errors", model, firing)
        for severity, bound in _severities(settings.error_page, settings.error_warn):
            if low > bound or (ease < 1 and rate > bound * ease and severity == "warn"):
                worst = max(tally.errors, key=lambda code: tally.errors[code])
                yield Finding(
                    rule="errors", where=model, severity=severity, value=rate, bound=bound,
                    words=f"{tally.failed} of {tally.requests} requests to {model} failed in the "
                    f"last five minutes ({rate:.1%}; bound {bound:.1%}), most with {worst}",
                    first="ask GET /ready for the reason, then read the gateway's log; "
                    "residency release rollback takes the release back",
                )  # fmt: skip
                break


def down(facts: Facts, settings: WatchSettings, firing: Collection[Key]) -> Iterator[Finding]:
    """An engine that cannot be asked."""
    for one in facts.sample.engines if facts.sample else ():
        if one.down:
            yield Finding(
                rule="down", where=one.model, severity="page", value=0.0, bound=1.0,
                words=f"the engine of {one.model} does not answer: {one.down}",
                first="it is restarted by itself; if it keeps failing: residency release rollback",
            )  # fmt: skip


def memory(facts: Facts, settings: WatchSettings, firing: Collection[Key]) -> Iterator[Finding]:
    """A process whose memory grows steadily."""
    for where, readings in facts.memory.items():
        if len(readings) < GROWTH_MINUTES or not (grows := steady(readings)):
            continue
        grown = grows.low * (readings[-1].time - readings[0].time)
        bound = max(GROWTH_BYTES, GROWTH_SHARE * readings[0].value)
        if grown > bound * _eased("memory", where, firing):
            hourly = [f"{_HOUR * one / 1e6:,.0f}" for one in (grows.value, grows.low, grows.high)]
            yield Finding(
                rule="memory", where=where, severity="warn", value=grows.value * _HOUR,
                bound=bound * _HOUR / (readings[-1].time - readings[0].time),
                words=f"the memory of {where} grows by {hourly[0]} MB an hour (95%: {hourly[1]} to "
                f"{hourly[2]}) and is {readings[-1].value / 1e6:,.0f} MB",
                first="restart residency serve when it suits; [serve] memory replaces an engine at "
                "a limit by itself",
            )  # fmt: skip


def disk(facts: Facts, settings: WatchSettings, firing: Collection[Key]) -> Iterator[Finding]:
    """Little room on the disk, or little at the pace at which it goes."""
    if not (seen := facts.sample) or not seen.disk_total:
        return
    share, bound = seen.disk_free / seen.disk_total, settings.disk_free
    fall = slope(facts.disk) if len(facts.disk) >= GROWTH_MINUTES else None
    hours = seen.disk_free / -fall.high / _HOUR if fall and fall.high < 0 else math.inf
    low = share < bound / _eased("disk", HERE, firing)
    if low or hours < DISK_HOURS:
        soon = f"; at the pace of now it is full in {hours:.1f} h" if hours < DISK_HOURS else ""
        yield Finding(
            rule="disk", where=HERE, severity="page" if share < bound / 5 else "warn",
            value=share, bound=bound,
            words=f"{seen.disk_free / 1e9:,.2f} GB ({share:.1%}) of the workspace's disk are free"
            + soon,
            first="residency gc shows what can go; [serve] retention keeps exchanges for less long",
        )  # fmt: skip


def budget(facts: Facts, settings: WatchSettings, firing: Collection[Key]) -> Iterator[Finding]:
    """Money that is nearly spent."""
    for model, one in (facts.sample.budgets if facts.sample else {}).items():
        used = one.spent / one.limit if one.limit else 1.0
        for severity, bound in _severities(BUDGET_PAGE, BUDGET_WARN):
            if used >= bound:
                yield Finding(
                    rule="budget", where=model, severity=severity, value=used, bound=bound,
                    words=f"{one.spent:,.2f} of this month's {one.limit:,.2f} for {model} are "
                    f"spent ({used:.0%}); past it nothing is asked there",
                    first=f"raise serve.models.{model}.budget, or send less to it",
                )  # fmt: skip
                break


def drift(facts: Facts, settings: WatchSettings, firing: Collection[Key]) -> Iterator[Finding]:
    """What is asked or answered is no longer as it was."""
    for one in facts.drift:
        yield Finding(
            rule="drift", where=one.where, severity="warn", value=one.value, bound=one.bound,
            words=one.words, first=one.first,
        )  # fmt: skip


RULES: tuple[Rule, ...] = (slow, slower, speed, errors, down, memory, disk, budget, drift)


def _late(tally: Tally, bound: float) -> bool:
    """Whether more than 5 of 100 answers take longer than `bound`, with 95% certainty: the p95 of
    some dozen answers is twice itself by chance now and then."""
    count = tally.latency.count
    return wilson(tally.latency.above(bound) / count, count).low > 1 - 0.95


def _eased(rule: str, where: str, firing: Collection[Key]) -> float:
    return EASE if Key(rule, where) in firing else 1.0


def _severities(page: float, warn: float) -> tuple[tuple[Severity, float], ...]:
    return (("page", page), ("warn", warn))


def _why_slow(tally: Tally) -> str:
    """What takes the time: the queue, the prompt, or the tokens."""
    queued, first = tally.queued.quantile(0.95) or 0.0, tally.ttft.quantile(0.95) or 0.0
    whole = tally.latency.quantile(0.95) or 0.0
    if queued > whole / 2:
        return "requests wait for a slot: raise engine.slots, or lower serve.queue to refuse sooner"
    if first > whole / 2:
        return "the first token takes the time: look at the length of the prompts"
    return (
        "the tokens take the time: look for another process on the cores (top), or longer answers"
    )
