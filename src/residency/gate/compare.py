"""May the second take the first's place? Both are asked the same cases, and compared in pairs."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from residency.builds import F16
from residency.config import GateSettings
from residency.errors import DataError, EngineUnavailable, InputError
from residency.gate import intervals
from residency.gate.answers import Speed, speed
from residency.gate.baseline import Baseline, prompt_key
from residency.gate.contender import Contender
from residency.gate.rules import RATE_WORDS, Rules
from residency.gate.score import KIND_WORDS, Kind
from residency.gate.statistics import discordant, mcnemar
from residency.gate.tally import Main, Marked, Tally, alone, count, mark
from residency.gate.verdict import power
from residency.gate.weigh import measure_for, rescored
from residency.types import Conversation, Rate, to_dict


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What both are asked: the `cases`, whose answers are of `kind`, with `limit` tokens an answer.
    Answers are kept in `folder` until all are there; a scorer is looked for in `workspace`."""

    cases: Sequence[Conversation]
    kind: Kind
    limit: int
    folder: Path
    workspace: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Both on the cases that both answered; `gains` are the second's over the first in each rate.

    `different` is the share of answers that differ, `won` and `lost` count the cases that only the
    second or only the first got right, `p` is McNemar's of these. `slower` is how many times the
    first's seconds the second takes for an answer. `worse` and `better` say what the 95% interval
    of the gain in the `main` rate shows; where neither is, the cases cannot tell.
    """

    trial: Trial
    main: Main
    marked: Mapping[str, Marked]
    tallies: tuple[Tally, Tally]
    speeds: tuple[Speed, Speed]
    gains: Mapping[str, Rate]
    different: Rate
    won: int
    lost: int
    p: float
    slower: Rate
    worse: bool
    better: bool
    power: str
    notes: Sequence[str]


def compare(one: Contender, other: Contender, trial: Trial, settings: GateSettings) -> Comparison:
    """Ask both, and say what the second gains. Raises `InputError` where both are the same,
    `EngineUnavailable` where there is no case that both answered, and what `Contender.ask` does."""
    if one.identity == other.identity:
        raise InputError(f"{one.name} and {other.name} are the same", hint="name two that differ")
    trial.folder.mkdir(parents=True, exist_ok=True)
    found = [side.ask(trial.cases, trial.limit, trial.folder) for side in (one, other)]
    both = [n for n in range(len(trial.cases)) if all(n in f.answers for f in found)]
    faults = [_fault(side, trial.cases) for side in found]
    if not both:
        name, fault = next((s.name, f) for s, f in zip((one, other), faults, strict=True) if f)
        raise EngineUnavailable(
            f"there is nothing to compare: {name} gave {fault}",
            hint="run it again: what was answered is kept",
        )
    comparison = _weigh((one, other), found, faults, both, trial, settings)
    if not any(faults):
        shutil.rmtree(trial.folder)
    return comparison


def unseen(
    cases: Sequence[Conversation], learnt: Iterable[Conversation]
) -> tuple[list[Conversation], int]:
    """The cases that are not among what was `learnt`, and how many are. Raises `DataError` where
    none is left."""
    if not cases:
        raise DataError("there is no case to ask: the test split is empty", hint="give more data")
    known = {prompt_key(one.prompt) for one in learnt}
    left = [case for case in cases if prompt_key(case.prompt) not in known]
    if not left:
        raise DataError(
            "there is no case to ask: one of both was trained on all of them",
            hint="give cases that neither was trained on, with --file",
        )
    return left, len(cases) - len(left)


def _fault(found: Baseline, cases: Sequence[Conversation]) -> str:
    if not found.failures:
        return ""
    number, why = next(iter(found.failures.items()))
    return f"no answer to {len(found.failures)} cases, the first {cases[number].source}: {why}"


def _weigh(
    sides: tuple[Contender, Contender],
    found: Sequence[Baseline],
    faults: Sequence[str],
    both: Sequence[int],
    trial: Trial,
    settings: GateSettings,
) -> Comparison:
    """The comparison on the cases of `both`, by number."""
    same = measure_for(trial.kind)
    references = [case.answer for case in trial.cases]
    answers = [{n: side.answers[n] for n in both} for side in found]
    first, second = (
        # The first stands where the gate has f16.
        mark(trial.kind, same, side.name, side.size, references, given, {F16: answers[0]})
        for side, given in zip(sides, answers, strict=True)
    )
    if settings.scorer:
        first, second = (
            rescored(one, settings.scorer, trial.workspace, trial.cases) for one in (first, second)
        )
    main = Rules(settings=settings, kind=trial.kind).main
    theirs, ours = ([s.exact for s in one.scores.values()] for one in (first, second))
    share = discordant(ours, theirs).value
    tallies = [
        replace(alone(trial.kind, one, references), discordant=share, fault=fault)
        for one, fault in zip((first, second), faults, strict=True)
    ]
    gains = {
        name: intervals.gain(_values(second, name), _values(first, name))
        for name in tallies[0].rates
    }
    return Comparison(
        trial=trial,
        main=main,
        marked={one.name: one for one in (first, second)},
        tallies=(tallies[0], replace(tallies[1], relations=count(second.relations))),
        speeds=(speed(found[0].asked), speed(found[1].asked)),
        gains=gains,
        different=intervals.rate([r == "different" for r in second.relations.values()]),
        won=sum(a and not b for a, b in zip(ours, theirs, strict=True)),
        lost=sum(b and not a for a, b in zip(ours, theirs, strict=True)),
        p=mcnemar(ours, theirs),
        slower=intervals.ratio(*(_seconds(side, answers[0]) for side in reversed(found))),
        worse=gains[main].high < 0,
        better=gains[main].low > 0,
        power=power(tallies[0], settings),
        notes=[same.note] if trial.kind == "text" and same.note else [],
    )


def _values(one: Marked, rate: str) -> list[float]:
    return [float(getattr(score, rate)) for score in one.scores.values()]


def _seconds(found: Baseline, cases: Mapping[int, Any]) -> list[float]:
    """What each answer took, in the order of `cases`."""
    asked = zip(found.asked.answers, found.asked.timings, strict=True)
    taken = {answer.source: timing.seconds for answer, timing in asked}
    return [taken[found.answers[n].source] for n in cases]


def headline(found: Comparison) -> str:
    """What came out, in a few sentences."""
    first, second = found.tallies
    names, n = (first.name, second.name), len(found.marked[first.name].answers)
    gain = found.gains[found.main]
    if found.worse or found.better:
        said = f"{names[1]} is {'worse' if found.worse else 'better'} than {names[0]}"
    else:
        said = f"{n} cases cannot tell which is better, {names[0]} or {names[1]}"
    values = [one.rates[found.main].value for one in (second, first)]
    counts = second.relations
    return (
        f"{said}: {names[1]} has {RATE_WORDS[found.main]} {values[0]:.3f}, {names[0]} "
        f"{values[1]:.3f}, a difference of {gain.value:+.3f} (95% interval {gain.low:+.3f} to "
        f"{gain.high:+.3f}). Of {n} answers {counts['exact']} are the same, {counts['similar']} "
        f"similar and {counts['different']} different."
    )


def figures(found: Comparison) -> dict[str, Any]:
    """What `--json` and the page have."""
    return {
        "kind": found.trial.kind,
        "kind_words": KIND_WORDS[found.trial.kind],
        "main": found.main,
        "cases": len(found.marked[found.tallies[0].name].answers),
        "max_tokens": found.trial.limit,
        "verdict": headline(found),
        "worse": found.worse,
        "better": found.better,
        "gains": to_dict(found.gains),
        "different": to_dict(found.different),
        "relations": dict(found.tallies[1].relations),
        "won": found.won,
        "lost": found.lost,
        "p": found.p,
        "slower": to_dict(found.slower),
        "power": found.power,
        "notes": list(found.notes),
        "sides": [
            {**to_dict(tally), "speed": to_dict(one)}
            for tally, one in zip(found.tallies, found.speeds, strict=True)
        ],
        "each": _each(found),
    }


def _each(found: Comparison) -> list[dict[str, Any]]:
    """A row for each case that both answered."""
    first, second = found.marked.values()
    return [
        {
            "source": found.trial.cases[n].source,
            "relation": relation,
            "right": [first.scores[n].exact, second.scores[n].exact],
            "answers": [first.answers[n].text, second.answers[n].text],
        }
        for n, relation in second.relations.items()
    ]
