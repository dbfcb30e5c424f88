"""The figures of one build over the test split, each with its interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from residency.gate import intervals
from residency.gate.answers import Answer
from residency.gate.score import CaseScore, Kind, Relation, relate, score
from residency.types import Rate

GainOf = Literal["exact", "similarity"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Marked:
    """A build's answers, case by case: each one's score, and its relation to f16's answer."""

    name: str
    size: int
    answers: Sequence[Answer]
    scores: Sequence[CaseScore]
    relations: Sequence[Relation]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """The figures of one build; `size` in bytes.

    `rates` holds `exact`; for JSON `valid_json` and `fields`; for text `similarity`; beside those
    `gain` for all but the base, and `different` for all but the base and f16. `cut` counts the
    answers that ran into the limit of tokens.
    """

    name: str
    size: int
    rates: Mapping[str, Rate]
    by_field: Mapping[str, Rate] = field(default_factory=dict)
    relations: Mapping[Relation, int] = field(default_factory=dict)
    cut: int = 0


def measured(kind: Kind) -> tuple[str, ...]:
    """The rates that exist for answers of `kind`."""
    return {
        "json": ("exact", "fields", "valid_json"),
        "label": ("exact",),
        "text": ("exact", "similarity"),
    }[kind]


def mark(
    kind: Kind,
    name: str,
    size: int,
    answers: Sequence[Answer],
    references: Sequence[str],
    f16: Sequence[Answer],
) -> Marked:
    """Score a build's answers against the references and relate them to those of f16."""
    return Marked(
        name=name,
        size=size,
        answers=answers,
        scores=[score(kind, a.text, r) for a, r in zip(answers, references, strict=True)],
        relations=[relate(kind, a.text, f.text) for a, f in zip(answers, f16, strict=True)],
    )


def tally(build: Marked, *, base: Marked, f16: Marked, gain_of: GainOf) -> Tally:
    """The figures of `build`."""
    rates = _quality(build.scores)
    relations: Mapping[Relation, int] = {}
    if build is not base:
        rates["gain"] = intervals.gain(_values(build, gain_of), _values(base, gain_of))
    if build is not base and build is not f16:
        counts = Counter(build.relations)
        relations = {r: counts[r] for r in ("exact", "similar", "different")}
        rates["different"] = intervals.rate([r == "different" for r in build.relations])
    return Tally(
        name=build.name,
        size=build.size,
        rates=rates,
        by_field=_by_field(build.scores),
        relations=relations,
        cut=sum(a.finish_reason == "length" for a in build.answers),
    )


def _quality(scores: Sequence[CaseScore]) -> dict[str, Rate]:
    rates = {"exact": intervals.rate([s.exact for s in scores])}
    valid = [s.valid_json for s in scores if s.valid_json is not None]
    fields = [s.fields for s in scores if s.fields is not None]
    similarity = [s.similarity for s in scores if s.similarity is not None]
    if valid:
        rates["valid_json"] = intervals.rate(valid)
    if fields:
        rates["fields"] = intervals.mean(fields)
    if similarity:
        rates["similarity"] = intervals.mean(similarity)
    return rates


def _by_field(scores: Sequence[CaseScore]) -> dict[str, Rate]:
    hits: dict[str, list[bool]] = {}
    for one in scores:
        for name, right in one.by_field.items():
            hits.setdefault(name, []).append(right)
    return {name: intervals.rate(values) for name, values in hits.items()}


def _values(build: Marked, name: GainOf) -> list[float]:
    if name == "exact":
        return [float(s.exact) for s in build.scores]
    return [s.similarity or 0.0 for s in build.scores]
