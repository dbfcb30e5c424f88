"""The figures of one build over the test split, each with its interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from residency.builds import BASE, F16
from residency.gate import intervals
from residency.gate.answers import Answer
from residency.gate.baseline import API
from residency.gate.metrics import measure
from residency.gate.score import CaseScore, Kind, Relation, score
from residency.gate.similar import Measure
from residency.gate.statistics import discordant, holm, mcnemar
from residency.types import Rate

Main = Literal["exact", "similarity"]
"""The rate in which builds are compared; see `GateSettings`."""
RELATIONS: tuple[Relation, ...] = ("exact", "similar", "different")


@dataclass(frozen=True, kw_only=True, slots=True)
class Marked:
    """A build's answers, or the API's, by the number of their case; of each its score, and its
    relation to f16's answer and to the API's where there is one."""

    name: str
    size: int
    answers: Mapping[int, Answer]
    scores: Mapping[int, CaseScore]
    relations: Mapping[int, Relation]
    to_api: Mapping[int, Relation]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """The figures of one build, or of the API; `size` in bytes.

    `rates` holds `exact`; for JSON `valid_json` and `fields`; for text `similarity`; `score` where
    there is a scorer; `gain` over the base model; for the levels `different` from f16 and their
    `loss` against it; and `lead` over the API. `metrics` are `metrics.measure`'s. `relations` are
    to f16, `to_api` to the API. `p` is McNemar's between f16 and a level, corrected for how many
    there are; `discordant` the share of cases that only one of both got right. `cut` counts the
    answers that ran into the limit of tokens. `fault` says why there are no answers.
    """

    name: str
    size: int
    rates: Mapping[str, Rate]
    metrics: Mapping[str, Rate] = field(default_factory=dict)
    by_field: Mapping[str, Rate] = field(default_factory=dict)
    relations: Mapping[Relation, int] = field(default_factory=dict)
    to_api: Mapping[Relation, int] = field(default_factory=dict)
    p: float | None = None
    discordant: float = 0.0
    cut: int = 0
    fault: str = ""


def measured(kind: Kind) -> tuple[str, ...]:
    """The rates that exist for answers of `kind`."""
    return {
        "json": ("exact", "fields", "valid_json"),
        "label": ("exact",),
        "text": ("exact", "similarity"),
    }[kind]


def mark(
    kind: Kind,
    same: Measure,
    name: str,
    size: int,
    references: Sequence[str],
    answers: Mapping[int, Answer],
    others: Mapping[str, Mapping[int, Answer]],
) -> Marked:
    """Score answers against the references and relate them to those of `others`: f16 and API."""

    def relate(other: Mapping[int, Answer]) -> dict[int, Relation]:
        both = [n for n in answers if n in other]
        found = same.relations(kind, [answers[n].text for n in both], [other[n].text for n in both])
        return dict(zip(both, found, strict=True))

    return Marked(
        name=name,
        size=size,
        answers=answers,
        scores={n: score(kind, a.text, references[n]) for n, a in answers.items()},
        relations=relate(others[F16]),
        to_api=relate(others.get(API, {})),
    )


def tally_all(
    kind: Kind,
    marked: Mapping[str, Marked],
    references: Sequence[str],
    main: Main,
    faults: Mapping[str, str],
) -> list[Tally]:
    """The figures of all builds and of the API, in their order."""
    tallies = [
        replace(_tally(kind, one, marked, references, main), fault=faults.get(name, ""))
        for name, one in marked.items()
    ]
    corrected = holm({one.name: one.p for one in tallies if one.p is not None})
    return [replace(one, p=corrected.get(one.name)) for one in tallies]


def _tally(
    kind: Kind,
    build: Marked,
    marked: Mapping[str, Marked],
    references: Sequence[str],
    main: Main,
) -> Tally:
    tally = alone(kind, build, references)
    rates = dict(tally.rates)
    f16, api, level = marked[F16], marked.get(API), build.name not in (BASE, F16, API)
    if build.name not in (BASE, API):
        if BASE in marked:  # a model from scratch has none
            rates["gain"] = intervals.gain(*pairs(build, marked[BASE], main))
        if api:
            rates["lead"] = intervals.gain(*pairs(build, api, main))
    if level:
        rates["different"] = intervals.rate([r == "different" for r in build.relations.values()])
        rates["loss"] = intervals.gain(*pairs(f16, build, main))
    right = [[value == 1 for value in side] for side in pairs(build, f16, "exact")]
    return replace(
        tally,
        rates=rates,
        relations=count(build.relations) if level else {},
        to_api=count(build.to_api),
        p=mcnemar(*right) if level and build.answers else None,
        discordant=discordant(*right).value,
    )


def alone(kind: Kind, build: Marked, references: Sequence[str]) -> Tally:
    """The figures that need no other build."""
    said = [answer.text for answer in build.answers.values()]
    return Tally(
        name=build.name,
        size=build.size,
        rates=_quality(list(build.scores.values())),
        metrics=measure(kind, said, [references[n] for n in build.answers]) if said else {},
        by_field=_by_field(build.scores.values()),
        cut=sum(a.finish_reason == "length" for a in build.answers.values()),
    )


def pairs(one: Marked, other: Marked, main: Main) -> tuple[list[float], list[float]]:
    """The main rate of both on the cases that both answered."""
    both = [n for n in one.scores if n in other.scores]
    ours, theirs = ([_value(m.scores[n], main) for n in both] for m in (one, other))
    return ours, theirs


def _value(score: CaseScore, main: Main) -> float:
    return float(score.exact) if main == "exact" else score.similarity or 0.0


def count(relations: Mapping[int, Relation]) -> dict[Relation, int]:
    """How many answers are in each relation; empty where none is related."""
    counts = Counter(relations.values())
    return {r: counts[r] for r in RELATIONS} if counts else {}


def _quality(scores: Sequence[CaseScore]) -> dict[str, Rate]:
    rates = {"exact": intervals.rate([s.exact for s in scores])}
    valid = [s.valid_json for s in scores if s.valid_json is not None]
    if valid:
        rates["valid_json"] = intervals.rate(valid)
    for name in ("fields", "similarity", "score"):
        if values := [v for s in scores if (v := getattr(s, name)) is not None]:
            rates[name] = intervals.mean(values)
    return rates


def _by_field(scores: Iterable[CaseScore]) -> dict[str, Rate]:
    hits: dict[str, list[bool]] = {}
    for one in scores:
        for name, right in one.by_field.items():
            hits.setdefault(name, []).append(right)
    return {name: intervals.rate(values) for name, values in hits.items()}
