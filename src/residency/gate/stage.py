"""The gate: is a build good enough to ship? It asks every build, judges, and writes the report.

The artifact `verdict`:

    answers/BUILD.jsonl      what each build answered, in the order of the test split
    scores.json              figures with intervals, and each case's score; the same on every run
    volatile/verdict.json    the same with speed and memory, for programs
    volatile/report.html     for people
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency import fingerprint
from residency.builds import BASE, F16, read_build
from residency.config import EngineSettings, GateSettings
from residency.conversations import SPLITS, read_conversations
from residency.errors import DataError, StorageError
from residency.gate import report as page
from residency.gate.answers import Asked, Speed, keep, kept, speed, write_answers
from residency.gate.score import KIND_WORDS, Kind, task_kind
from residency.gate.tally import Marked, Tally, mark, tally
from residency.gate.verdict import Outcome, check_settings, decide, gain_of
from residency.progress import say
from residency.store import VOLATILE, Draft
from residency.types import Artifact, Build, Conversation, Record, to_dict, to_json

MIN_TOKENS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What the gate judges.

    `builds` in the order of the report: `base-f16` (the base model), `f16`, then the levels.
    `name` is the specialist's, `base` the base model's.
    """

    dataset: Artifact
    builds: Mapping[str, Artifact]
    name: str
    base: str
    engine: EngineSettings


def run(inputs: Inputs, settings: GateSettings, out: Draft) -> Record:
    """Ask, judge and report; the record's figures name the `release`, or null.

    Raises `SettingsError` for a threshold that does not fit the data set's answers, the
    `EngineError` tree, and `FingerprintError` for a build that is not what it was when made.
    """
    kind = check(inputs.dataset.path, settings)
    cases = _cases(inputs.dataset.path)
    limit = max_tokens(inputs.dataset.path, settings)
    builds = {name: read_build(artifact.path) for name, artifact in inputs.builds.items()}
    asked = _ask_all(inputs, builds, cases, limit, out.path / "answers")
    marked = _mark_all(kind, builds, asked, cases)
    tallies = [
        tally(m, base=marked[BASE], f16=marked[F16], gain_of=gain_of(kind, settings))
        for m in marked.values()
    ]
    outcome = decide(tallies, settings, kind)
    say(outcome.headline)
    speeds = {name: speed(one) for name, one in asked.items()}
    figures = _figures(inputs, kind, cases, limit, outcome, table(tallies, outcome, speeds))
    folder = _write(out.path / "verdict", inputs, settings, figures, marked, cases)
    return out.finish({"verdict": (folder, "verdict")}, figures)


def check(dataset: Path, settings: GateSettings) -> Kind:
    """The kind of a data set's answers. Raises `SettingsError` for thresholds that don't fit it.

    Cheap: it can be asked before hours of training.
    """
    splits = [read_conversations(dataset / f"{split}.jsonl") for split in SPLITS]
    kind = task_kind([one.answer for split in splits for one in split])
    check_settings(kind, settings)
    return kind


def max_tokens(dataset: Path, settings: GateSettings) -> int:
    """The longest answer that a build may give: as set, or 1.5 times the longest learnt one."""
    if settings.max_tokens:
        return settings.max_tokens
    path = dataset / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        longest = int(report["tokens"]["answer"]["max"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path}: damaged ({error})", hint="run: residency run") from error
    return max(MIN_TOKENS, math.ceil(1.5 * longest))


def _cases(dataset: Path) -> list[Conversation]:
    path = dataset / "test.jsonl"
    cases = read_conversations(path)
    if not cases:
        raise DataError(f"{path}: the test split is empty", hint="give more data")
    return cases


def _ask_all(
    inputs: Inputs,
    builds: Mapping[str, Build],
    cases: Sequence[Conversation],
    limit: int,
    folder: Path,
) -> dict[str, Asked]:
    from residency.gate.ask import ask

    probes = fingerprint.probes(inputs.dataset.path)
    found = {}
    for name, build in builds.items():
        asked = kept(folder, name)
        if asked is None:
            asked = ask(inputs.builds[name].path, build, cases, probes, inputs.engine, limit)
            keep(folder, name, asked)
        else:
            say(f"{name} was asked before")
        found[name] = asked
    return found


def _mark_all(
    kind: Kind,
    builds: Mapping[str, Build],
    asked: Mapping[str, Asked],
    cases: Sequence[Conversation],
) -> dict[str, Marked]:
    references = [case.answer for case in cases]
    f16 = asked[F16].answers
    return {
        name: mark(kind, name, builds[name].size, one.answers, references, f16)
        for name, one in asked.items()
    }


def table(
    tallies: Sequence[Tally], outcome: Outcome, speeds: Mapping[str, Speed]
) -> list[dict[str, Any]]:
    """The table, a build a row, in the order in which the builds were given."""
    return [
        {
            "build": one.name,
            "passed": judged.passed,
            "reason": judged.reason,
            **{k: v for k, v in to_dict(one).items() if k != "name"},
            "speed": to_dict(speeds[one.name]),
        }
        for one, judged in zip(tallies, outcome.judgements, strict=True)
    ]


def _figures(
    inputs: Inputs,
    kind: Kind,
    cases: Sequence[Conversation],
    limit: int,
    outcome: Outcome,
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "name": inputs.name,
        "base": inputs.base,
        "kind": kind,
        "kind_words": KIND_WORDS[kind],
        "cases": len(cases),
        "max_tokens": limit,
        "release": outcome.release,
        "verdict": outcome.headline,
        "doubt": outcome.doubt,
        "rule": outcome.rule,
        "rows": rows,
    }


def _write(
    folder: Path,
    inputs: Inputs,
    settings: GateSettings,
    figures: Mapping[str, Any],
    marked: Mapping[str, Marked],
    cases: Sequence[Conversation],
) -> Path:
    """Write the artifact anew: what a killed run left in its folder must not reach the digest."""
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("answers", VOLATILE):
        (folder / part).mkdir(parents=True)
    for name, one in marked.items():
        write_answers(folder / "answers" / f"{name}.jsonl", one.answers)
    steady = {
        **figures,
        "rows": [{k: v for k, v in row.items() if k != "speed"} for row in figures["rows"]],
        "cases": _scored(marked, cases),
    }
    (folder / "scores.json").write_text(to_json(steady, indent=1), encoding="utf-8")
    whole = {**figures, "settings": settings.model_dump(), "engine": inputs.engine.model_dump()}
    (folder / VOLATILE / "verdict.json").write_text(to_json(whole, indent=1), encoding="utf-8")
    shown = page.examples(marked, cases, figures["release"] or F16)
    html = page.render(whole, shown)
    (folder / VOLATILE / "report.html").write_text(html, encoding="utf-8")
    return folder


def _scored(marked: Mapping[str, Marked], cases: Sequence[Conversation]) -> list[dict[str, Any]]:
    return [
        {
            "source": case.source,
            "builds": {
                name: {**to_dict(one.scores[i]), "against_f16": one.relations[i]}
                for name, one in marked.items()
            },
        }
        for i, case in enumerate(cases)
    ]
