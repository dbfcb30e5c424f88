"""From answers to a verdict: scored, compared with f16 and the API, and held to the rules."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from residency.builds import BASE, F16
from residency.config import GateSettings
from residency.errors import DataError, MissingError
from residency.gate import similar
from residency.gate.answers import speed
from residency.gate.asking import Found, Task, diverge
from residency.gate.baseline import API, Baseline
from residency.gate.forgetting import compare
from residency.gate.judged import judge_all
from residency.gate.result import Result
from residency.gate.rules import Rules
from residency.gate.score import Kind
from residency.gate.scorer import score_all
from residency.gate.statistics import noise_floor
from residency.gate.tally import Marked, mark, tally_all
from residency.gate.verdict import decide
from residency.progress import say
from residency.types import Conversation


def weigh(kind: Kind, settings: GateSettings, task: Task, found: Found, api: Baseline) -> Result:
    """Score, compare and decide. Raises `DataError` where the user's scorer fails."""
    same = measure_for(kind)
    marked = _mark(kind, same, task, found, api)
    if settings.scorer:
        marked = {
            name: rescored(one, settings.scorer, task.workspace, task.cases)
            for name, one in marked.items()
        }
    again = [answer.text for answer in found.again]
    first = [answer.text for answer in found.asked[found.twice].answers[: len(again)]]
    noise = noise_floor(same.relations(kind, again, first))
    rules = Rules(settings=settings, kind=kind, noise=noise)
    divergence = diverge(task, found.faults) if settings.divergence else {}
    faults = found.faults | {n: d["fault"] for n, d in divergence.items() if d["fault"]}
    if api.failures:
        number, why = next(iter(api.failures.items()))
        faults[API] = (
            f"no answer to {len(api.failures)} cases, the first {task.cases[number].source}: {why}"
        )
    tallies = tally_all(kind, marked, [c.answer for c in task.cases], rules.main, faults)
    speeds = {name: speed(one) for name, one in {**found.asked, API: api.asked}.items()}
    return Result(
        cases=task.cases,
        rules=rules,
        marked=marked,
        tallies=tallies,
        outcome=decide(tallies, rules, speeds),
        speeds=speeds,
        load=found.load,
        twice=found.twice,
        divergence=divergence,
        extras=_extras(settings, marked, found, task),
        notes=[same.note] if kind == "text" and same.note else [],
    )


def _mark(
    kind: Kind, same: similar.Measure, task: Task, found: Found, api: Baseline
) -> dict[str, Marked]:
    answers = {name: dict(enumerate(one.answers)) for name, one in found.asked.items()}
    if api.answers or api.failures:
        answers[API] = dict(api.answers)
    sizes = {API: 0, **{name: build.size for name, build in task.builds.items()}}
    references = [case.answer for case in task.cases]
    return {
        name: mark(kind, same, name, sizes[name], references, given, answers)
        for name, given in answers.items()
    }


def rescored(marked: Marked, scorer: str, workspace: Path, cases: Sequence[Conversation]) -> Marked:
    """With the scores of the user's own scorer. Raises `DataError` where it fails."""
    asked = [cases[n] for n in marked.answers]
    given = [answer.text for answer in marked.answers.values()]
    got = score_all(scorer, workspace, asked, given)
    if failed := [one.error for one in got if one.error]:
        raise DataError(
            f"gate.scorer fails on {len(failed)} of {len(got)} answers of {marked.name}: "
            f"{failed[0]}",
            hint="mend it and run again; what was answered is kept",
        )
    scores = {
        n: replace(marked.scores[n], score=statistics.fmean((one.scores or {}).values()))
        for n, one in zip(marked.answers, got, strict=True)
    }
    return replace(marked, scores=scores)


def _extras(
    settings: GateSettings, marked: Mapping[str, Marked], found: Found, task: Task
) -> dict[str, Any]:
    """What was asked for beside the test split."""
    extras: dict[str, Any] = {"judge": None, "forgetting": None}
    if settings.judge:
        kept = task.folder / "judge.jsonl"
        extras["judge"] = judge_all(settings.judge, marked, task.cases, kept)
    if found.general:
        extras["forgetting"] = compare(found.general[BASE], found.general[F16])
    return extras


def measure_for(kind: Kind) -> similar.Measure:
    """What says whether two answers are alike; free text asks for the sentence encoder too."""
    return similar.load(_encoder() if kind == "text" else None)


def _encoder() -> similar.Encodes | None:
    """The sentence encoder, or None where it is not installed."""
    from residency.models.encoder import Encoder

    try:
        # Its characters are in the overlap already.
        return Encoder(characters=False)
    except MissingError as error:
        say(f"no sentence encoder: {error}")
        return None
