"""The gate: is a build good enough to ship? It asks every build, judges, and writes the report.

The artifact `verdict`:

    answers/BUILD.jsonl      what each build answered, in the order of the test split; so the API
    scores.json              figures with intervals, and each case's score; the same on every run
    volatile/verdict.json    the same with speed and memory, for programs
    volatile/report.html     for people
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from residency import fingerprint
from residency.builds import read_build
from residency.config import EngineSettings, GateSettings
from residency.conversations import SPLITS, read_conversations
from residency.errors import DataError, StorageError
from residency.gate.asking import Task, ask_all
from residency.gate.baseline import Baseline
from residency.gate.result import figures, write
from residency.gate.rules import Rules
from residency.gate.score import Kind, task_kind
from residency.gate.weigh import weigh
from residency.progress import say
from residency.store import Draft, sha256_text
from residency.types import Artifact, Record, to_json

MIN_TOKENS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What the gate judges.

    `builds` in the order of the report: `base-f16` (the base model), `f16`, then the others.
    `name` is the specialist's, `base` the base model's. `api` has the API's answers (see
    `baseline.gather`); a scorer is looked for in `workspace`.
    """

    dataset: Artifact
    builds: Mapping[str, Artifact]
    name: str
    base: str
    engine: EngineSettings
    workspace: Path = Path()
    api: Baseline = field(default_factory=Baseline)


def run(inputs: Inputs, settings: GateSettings, out: Draft) -> Record:
    """Ask, judge and report; the record's figures name the `release`, or null.

    Raises `SettingsError` for a rule that does not fit the data set's answers, `DataError` for a
    scorer that fails, the `EngineError` tree, and `FingerprintError` for a build that is not what
    it was when made.
    """
    kind = check(inputs.dataset.path, settings)
    cases = read_conversations(inputs.dataset.path / "test.jsonl")
    limit = max_tokens(inputs.dataset.path, settings)
    task = Task(
        artifacts=inputs.builds,
        builds={name: read_build(artifact.path) for name, artifact in inputs.builds.items()},
        cases=cases,
        probes=fingerprint.probes(inputs.dataset.path),
        limit=limit,
        folder=answers_folder(inputs, limit, out.path),
        engine=inputs.engine,
        workspace=inputs.workspace,
    )
    found = ask_all(settings, task)
    result = weigh(kind, settings, task, found, inputs.api)
    say(result.outcome.headline)
    about = {"name": inputs.name, "base": inputs.base, "max_tokens": limit}
    whole = figures(result, about)
    folder = write(out.path / "verdict", result, whole, inputs.engine.model_dump())
    record = out.finish({"verdict": (folder, "verdict")}, whole)
    if not inputs.api.failures:  # else it will be run again, for the API's other answers
        shutil.rmtree(task.folder)
    return record


def check(dataset: Path, settings: GateSettings) -> Kind:
    """The kind of a data set's answers. Raises `DataError` where there is none to test with, and
    `SettingsError` for rules that don't fit them.

    Cheap: it can be asked before hours of training.
    """
    splits = {split: read_conversations(dataset / f"{split}.jsonl") for split in SPLITS}
    if not splits["test"]:
        raise DataError(f"{dataset / 'test.jsonl'}: the test split is empty", hint="give more data")
    kind = task_kind([one.answer for split in splits.values() for one in split])
    Rules(settings=settings, kind=kind).check()
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


def answers_folder(inputs: Inputs, limit: int, draft: Path) -> Path:
    """Where answers are kept until the gate is done. It depends on what is asked only: after a rule
    or a scorer was mended, nothing is asked again."""
    digests = {name: one.digest for name, one in inputs.builds.items()}
    asked = [inputs.dataset.digest, digests, limit, inputs.engine.model_dump()]
    return draft.with_name(f"gate-answers-{sha256_text(to_json(asked))[:16]}")
