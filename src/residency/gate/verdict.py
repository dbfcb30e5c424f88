"""Which build may ship: the rule in words, each build's judgement, and the release."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from residency.builds import BASE, F16
from residency.config import GateSettings
from residency.gate import intervals
from residency.gate.answers import Speed
from residency.gate.baseline import API
from residency.gate.rules import Rules, percent
from residency.gate.statistics import power_in_words
from residency.gate.tally import Tally
from residency.types import Rate

PROPORTIONS = ("exact", "valid_json", "different")
_SMALL = 0.02  # the difference that is spoken of where no rule names one


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """One build: `passed` is None for what is never a candidate: the base model and the API."""

    build: str
    passed: bool | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The gate's answer: `release` is the build that ships, or None.

    `rule` says what decided, `headline` the result in a sentence or two, `doubt` (or "") what the
    test split is too small to tell.
    """

    release: str | None
    rule: str
    headline: str
    doubt: str
    judgements: tuple[Judgement, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Check:
    passed: bool
    words: str


def decide(tallies: Sequence[Tally], rules: Rules, speeds: Mapping[str, Speed]) -> Outcome:
    """Judge every build and choose the smallest that passes; at equal size the first."""
    judgements = tuple(_judge(one, rules, speeds[one.name]) for one in tallies)
    passed = {j.build for j in judgements if j.passed}
    by_name = {one.name: one for one in tallies}
    release = min((t for t in tallies if t.name in passed), key=lambda t: t.size, default=None)
    subject = release or by_name[F16]
    return Outcome(
        release=release.name if release else None,
        rule=rules.in_words(),
        headline=_headline(subject, judgements, release=release),
        doubt=_doubt(subject, rules),
        judgements=judgements,
    )


def _judge(build: Tally, rules: Rules, speed: Speed) -> Judgement:
    if build.name in (BASE, API):
        what = "the base model" if build.name == BASE else "the API"
        also = f"; {build.fault}" if build.fault else ""
        return Judgement(build=build.name, passed=None, reason=f"{what}, for comparison{also}")
    if build.fault:
        return Judgement(build=build.name, passed=False, reason=build.fault)
    checks = [*_quality(build, rules), *_closeness(build, rules), *_cost(speed, rules.settings)]
    failed = [one.words for one in checks if not one.passed]
    held = "; ".join(one.words for one in checks)
    reason = "; ".join(failed) or (f"passes: {held}" if held else "passes: no rule is set for it")
    return Judgement(build=build.name, passed=not failed, reason=reason)


def _quality(build: Tally, rules: Rules) -> list[_Check]:
    found = []
    for name, threshold in rules.lowest.items():
        value = build.rates[name].value
        passed = value >= threshold
        side = "is at least" if passed else "is below"
        words = f"{rules.words(name)} {value:.3f} {side} {threshold:g}"
        found.append(_Check(passed=passed, words=words))
    return found


def _closeness(build: Tally, rules: Rules) -> list[_Check]:
    """How near it must be to f16, and how near to the API."""
    found = []
    wanted = rules.settings
    if different := build.rates.get("different"):
        found.append(_difference(different, wanted.different, rules.noise))
        if wanted.drop is not None:
            loss = build.rates["loss"].value
            passed = loss <= wanted.drop
            side = "at most" if passed else "more than"
            words = f"{rules.words('loss')} {loss:.3f}, {side} {wanted.drop:g}"
            found.append(_Check(passed=passed, words=words))
    if (margin := wanted.worse_than_api) is not None:
        lead = build.rates["lead"]
        passed = lead.n > 0 and lead.low > -margin
        shown = "is shown" if passed else "is not shown"
        figures = f"{lead.value:+.3f}, 95% interval {lead.low:+.3f} to {lead.high:+.3f}"
        words = (
            f"that it is worse than the API by no more than {margin:g} {shown} "
            f"({rules.words('lead')} {figures}, {lead.n} cases)"
        )
        found.append(_Check(passed=passed, words=words))
    return found


def _difference(different: Rate, limit: float, noise: Rate | None) -> _Check:
    share = f"{percent(different.value)} of its answers differ from those of f16"
    if different.value <= limit:
        return _Check(passed=True, words=f"{share}, at most {percent(limit)}")
    if noise and different.value <= noise.value:
        return _Check(passed=True, words=f"{share}, no more than a build asked twice from itself")
    words = f"{share}, more than {percent(limit)}: this quantization is too aggressive"
    return _Check(passed=False, words=words)


def _cost(speed: Speed, wanted: GateSettings) -> list[_Check]:
    limits = (
        (wanted.latency, speed.p95, "s for 95 of 100 answers"),
        (wanted.memory, round(speed.memory / 1e6), "MB of memory"),
    )
    return [
        _Check(
            passed=value <= limit,
            words=f"{value:.3g} {unit}, {'at most' if value <= limit else 'more than'} {limit:g}",
        )
        for limit, value, unit in limits
        if limit is not None
    ]


def _headline(subject: Tally, judgements: Sequence[Judgement], *, release: Tally | None) -> str:
    f16 = next(j for j in judgements if j.build == F16)
    size = f"{subject.size / 1e6:.0f} MB"
    if release is None:
        return f"Nothing ships: the specialist itself does not reach the thresholds ({f16.reason})."
    if not f16.passed:
        return (
            f"{release.name} ships ({size}), though the unquantized specialist fails by itself "
            f"({f16.reason})."
        )
    smaller = [j for j in judgements if j.passed is False]
    failed = f" {', '.join(j.build for j in smaller)} did not pass." if smaller else ""
    return f"{release.name} ships: the smallest build that passes, {size}.{failed}"


def _doubt(build: Tally, rules: Rules) -> str:
    """On the thresholds that lie inside the interval of their rate, and how many cases it takes."""
    asked = rules.lowest
    if "different" in build.rates:
        asked["different"] = rules.settings.different
    unsure = {n: build.rates[n] for n, t in asked.items() if _holds(build.rates[n], t)}
    if not unsure:
        return ""
    parts = [
        f"{rules.words(name)} lies between {rate.low:.2f} and {rate.high:.2f}, "
        f"and so does the threshold {asked[name]:g}{_enough(name, rate, asked[name])}"
        for name, rate in unsure.items()
    ]
    return (
        f"{build.rates['exact'].n} test cases are too few to tell for sure: of {build.name}, "
        f"{'; '.join(parts)}."
    )


def power(build: Tally, settings: GateSettings) -> str:
    """What the test split can tell of a loss against f16 or the API, in words."""
    margins = (settings.drop, settings.worse_than_api)
    difference = min((m for m in margins if m), default=_SMALL)
    cases = build.rates["exact"].n
    return power_in_words(cases, difference, build.discordant) if cases else ""


def _enough(name: str, rate: Rate, threshold: float) -> str:
    """How many cases would tell: Wilson's interval leaves a threshold t out from
    z^2 t (1 - t) / (p - t)^2 cases on; the width of others goes with the root of their number."""
    distance = abs(rate.value - threshold)
    if distance < 1e-6:
        return ""
    if name in PROPORTIONS:
        n = threshold * (1 - threshold) * (intervals.Z / distance) ** 2
    else:
        width = rate.value - rate.low if rate.value > threshold else rate.high - rate.value
        n = rate.n * (width / distance) ** 2
    return f" (about {math.ceil(n)} cases would tell)"


def _holds(rate: Rate, threshold: float) -> bool:
    return rate.low < threshold < rate.high
