"""Which build may ship: the rule in words, each build's judgement, and the release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from residency.builds import BASE, F16
from residency.config import GateSettings
from residency.errors import SettingsError
from residency.gate.score import Kind
from residency.gate.tally import GainOf, Tally, measured
from residency.types import Rate

RATE_WORDS: Mapping[str, str] = {
    "exact": "exact match",
    "fields": "share of right fields",
    "valid_json": "share of valid JSON",
    "similarity": "similarity",
    "gain": "lead over the base model",
    "different": "share of answers that differ from f16's",
}
LOWEST = ("exact", "fields", "valid_json", "similarity", "gain")


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """One build: `passed` is None for the base model, which is never a candidate."""

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


def check_settings(kind: Kind, settings: GateSettings) -> None:
    """Raise `SettingsError` where a threshold is set for a rate that answers of `kind` lack."""
    for name in ("fields", "valid_json", "similarity"):
        if getattr(settings, name) is not None and name not in measured(kind):
            answers = {"json": "JSON objects", "label": "labels", "text": "free text"}[kind]
            raise SettingsError(
                f"gate.{name} is set, but the answers of this data set are {answers}, "
                f"which have no {RATE_WORDS[name]}",
                hint=f"remove gate.{name} from residency.toml; "
                f"measured here: {', '.join(measured(kind))}",
            )


def gain_of(kind: Kind, settings: GateSettings) -> GainOf:
    """The rate whose lead over the base model is asked for (see `GateSettings.gain`)."""
    return "similarity" if kind == "text" and settings.exact is None else "exact"


def decide(tallies: Sequence[Tally], settings: GateSettings, kind: Kind) -> Outcome:
    """Judge every build and choose the smallest that passes; at equal size the first."""
    judgements = tuple(_judge(one, settings, kind) for one in tallies)
    passed = {j.build for j in judgements if j.passed}
    by_name = {one.name: one for one in tallies}
    release = min((t for t in tallies if t.name in passed), key=lambda t: t.size, default=None)
    subject = release or by_name[F16]
    return Outcome(
        release=release.name if release else None,
        rule=rule_in_words(settings, kind),
        headline=_headline(subject, judgements, release=release),
        doubt=_doubt(subject, settings, kind),
        judgements=judgements,
    )


def rule_in_words(settings: GateSettings, kind: Kind) -> str:
    """The rule that `decide` applies."""
    limit = f"at most {_percent(settings.different)} of its answers differ from those of f16"
    asked = [
        f"its {_words(name, kind, settings)} is at least {threshold:g}"
        for name, threshold in thresholds(settings).items()
    ]
    if asked:
        rule = f"A build passes when {', '.join(asked)}, and {limit}."
    else:
        rule = f"No threshold of quality is set: a build passes when {limit}, and f16 always does."
    return (
        f"{rule} The measured value decides, not the lower end of its interval. "
        "Of the builds that pass, the smallest becomes the release; f16 is a candidate, "
        "the base model is not."
    )


def thresholds(settings: GateSettings) -> dict[str, float]:
    """The lowest values that are set, by the name of their rate."""
    values = {name: getattr(settings, name) for name in LOWEST}
    return {name: value for name, value in values.items() if value is not None}


def _judge(build: Tally, settings: GateSettings, kind: Kind) -> Judgement:
    if build.name == BASE:
        return Judgement(build=BASE, passed=None, reason="the base model, for comparison")
    reasons = [
        f"{_words(name, kind, settings)} {build.rates[name].value:.3f} is below {threshold:g}"
        for name, threshold in thresholds(settings).items()
        if build.rates[name].value < threshold
    ]
    different = build.rates.get("different")
    if different is not None and different.value > settings.different:
        reasons.append(
            f"{_percent(different.value)} of its answers differ from those of f16, more than "
            f"{_percent(settings.different)}: this quantization is too aggressive"
        )
    reason = "; ".join(reasons) or "passes"
    return Judgement(build=build.name, passed=not reasons, reason=reason)


def _headline(subject: Tally, judgements: Sequence[Judgement], *, release: Tally | None) -> str:
    f16 = next(j for j in judgements if j.build == F16)
    size = f"{subject.size / 1e6:.0f} MB"
    if release is None:
        return f"Nothing ships: the specialist itself does not reach the thresholds ({f16.reason})."
    if not f16.passed:
        return (
            f"{release.name} ships ({size}), though the unquantized specialist fails by itself "
            f"({f16.reason}): the two lie close to the threshold."
        )
    smaller = [j for j in judgements if j.passed is False]
    failed = f" {', '.join(j.build for j in smaller)} did not pass." if smaller else ""
    return f"{release.name} ships: the smallest build that passes, {size}.{failed}"


def _doubt(build: Tally, settings: GateSettings, kind: Kind) -> str:
    """One sentence on the thresholds that lie inside the interval of their rate."""
    asked = thresholds(settings)
    if "different" in build.rates:
        asked["different"] = settings.different
    unsure = {n: build.rates[n] for n, t in asked.items() if _holds(build.rates[n], t)}
    if not unsure:
        return ""
    parts = [
        f"{_words(name, kind, settings)} lies between {rate.low:.2f} and {rate.high:.2f}, "
        f"and so does the threshold {asked[name]:g}"
        for name, rate in unsure.items()
    ]
    return (
        f"{build.rates['exact'].n} test cases are too few to tell for sure: of {build.name}, "
        f"{'; '.join(parts)}."
    )


def _holds(rate: Rate, threshold: float) -> bool:
    return rate.low < threshold < rate.high


def _words(name: str, kind: Kind, settings: GateSettings) -> str:
    if name == "gain":
        return f"lead over the base model in {RATE_WORDS[gain_of(kind, settings)]}"
    return RATE_WORDS[name]


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
