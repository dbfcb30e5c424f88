"""What the gate found: as figures for a record, and as the files of its artifact."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.builds import F16
from residency.gate import report as page
from residency.gate.answers import Speed, write_answers
from residency.gate.rules import Rules
from residency.gate.score import KIND_WORDS
from residency.gate.statistics import above_noise
from residency.gate.tally import Marked, Tally
from residency.gate.verdict import Outcome, power
from residency.store import VOLATILE
from residency.types import Conversation, to_dict, to_json

TIMED = ("speed", "load")
"""What of a row differs from run to run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """All that was measured. `twice` names the build whose noise is in the rules; `extras` are what
    was asked for beside the test split, `notes` what the figures had to do without."""

    cases: Sequence[Conversation]
    rules: Rules
    marked: Mapping[str, Marked]
    tallies: Sequence[Tally]
    outcome: Outcome
    speeds: Mapping[str, Speed]
    load: Mapping[str, Sequence[Mapping[str, Any]]]
    twice: str
    divergence: Mapping[str, Mapping[str, Any]]
    extras: Mapping[str, Any]
    notes: Sequence[str]


def figures(result: Result, about: Mapping[str, Any]) -> dict[str, Any]:
    """What the record and verdict.json have; `about` names what was judged."""
    outcome, rules = result.outcome, result.rules
    subject = outcome.release or F16
    return {
        **about,
        "kind": rules.kind,
        "kind_words": KIND_WORDS[rules.kind],
        "main": rules.main,
        "cases": len(result.cases),
        "release": outcome.release,
        "verdict": outcome.headline,
        "doubt": outcome.doubt,
        "power": power(next(t for t in result.tallies if t.name == subject), rules.settings),
        "rule": outcome.rule,
        "noise": {"build": result.twice, "rate": to_dict(rules.noise)},
        "notes": list(result.notes),
        "rows": rows(result),
        **result.extras,
    }


def rows(result: Result) -> list[dict[str, Any]]:
    """The table, a build a row, in the order in which the builds were given."""
    return [
        {
            "build": one.name,
            "passed": judged.passed,
            "reason": judged.reason,
            **{k: v for k, v in to_dict(one).items() if k != "name"},
            "above_noise": _above(one, result.rules),
            "divergence": result.divergence.get(one.name),
            "load": list(result.load.get(one.name, ())),
            "speed": to_dict(result.speeds[one.name]),
        }
        for one, judged in zip(result.tallies, result.outcome.judgements, strict=True)
    ]


def _above(build: Tally, rules: Rules) -> bool | None:
    different = build.rates.get("different")
    return above_noise(different, rules.noise) if different and rules.noise else None


def write(
    folder: Path, result: Result, whole: Mapping[str, Any], engine: Mapping[str, Any]
) -> Path:
    """Write the artifact anew: what a killed run left in its folder must not reach the digest."""
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("answers", VOLATILE):
        (folder / part).mkdir(parents=True)
    for name, one in result.marked.items():
        write_answers(folder / "answers" / f"{name}.jsonl", list(one.answers.values()))
    steady = {
        **whole,
        "rows": [{k: v for k, v in row.items() if k not in TIMED} for row in whole["rows"]],
        "cases": [_case(n, case, result.marked) for n, case in enumerate(result.cases)],
    }
    (folder / "scores.json").write_text(to_json(steady, indent=1), encoding="utf-8")
    shown = {**whole, "settings": result.rules.settings.model_dump(), "engine": engine}
    (folder / VOLATILE / "verdict.json").write_text(to_json(shown, indent=1), encoding="utf-8")
    examples = page.examples(result.marked, result.cases, whole["release"] or F16)
    html = page.render(shown, examples)
    (folder / VOLATILE / "report.html").write_text(html, encoding="utf-8")
    return folder


def _case(number: int, case: Conversation, marked: Mapping[str, Marked]) -> dict[str, Any]:
    return {
        "source": case.source,
        "builds": {
            name: {
                **to_dict(one.scores[number]),
                "against_f16": one.relations.get(number),
                "against_api": one.to_api.get(number),
            }
            for name, one in marked.items()
            if number in one.scores
        },
    }
