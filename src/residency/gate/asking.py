"""Who is asked what: every build the test split, one of them twice, and what else is wished for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residency import fingerprint
from residency.builds import BASE, F16
from residency.config import EngineSettings, GateSettings
from residency.engines.choice import engine_for
from residency.errors import EngineError
from residency.gate import load
from residency.gate.answers import Answer, Asked
from residency.gate.ask import TIMEOUT, Questions, ask, spec_of
from residency.gate.forgetting import MAX_TOKENS
from residency.general import questions
from residency.progress import say
from residency.store import write_atomic
from residency.types import Artifact, Build, Conversation, to_dict, to_json

if TYPE_CHECKING:
    from residency.gate.divergence import Divergence

TWICE = 16
"""Cases that one build is asked again: few, as the shipped chain has little time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is to be asked: of the `builds`, which are in `artifacts`, the test split's `cases` with
    `limit` tokens an answer, and `probes` to check the engines. Answers are kept in `folder`."""

    artifacts: Mapping[str, Artifact]
    builds: Mapping[str, Build]
    cases: Sequence[Conversation]
    probes: Sequence[Conversation]
    limit: int
    folder: Path
    engine: EngineSettings
    workspace: Path


@dataclass(kw_only=True, slots=True)
class Found:
    """What came back, by build. `faults` say why one has no answers; `twice` names the build that
    was asked again."""

    asked: dict[str, Asked] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    twice: str
    again: Sequence[Answer] = ()
    general: dict[str, Sequence[Answer]] = field(default_factory=dict)
    load: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def ask_all(settings: GateSettings, task: Task) -> Found:
    """Ask the builds in their order. What makes the engine of a level fail is that level's alone;
    of the base model and f16, with which all others are compared, it is raised."""
    task.folder.mkdir(parents=True, exist_ok=True)
    found = Found(twice=next((name for name in task.builds if name not in (BASE, F16)), F16))
    for name, build in task.builds.items():
        try:
            _ask_one(task.artifacts[name].path, build, settings, task, found)
        except EngineError as error:
            if name in (BASE, F16):
                raise
            say(f"{name} fails: {error.message}")
            found.asked[name], found.faults[name] = Asked(), error.message
    return found


def _ask_one(folder: Path, build: Build, settings: GateSettings, task: Task, found: Found) -> None:
    name = build.name
    wanted = [_questions(task, name, task.cases)]
    if name == found.twice:
        wanted.append(_questions(task, f"{name}.again", task.cases[:TWICE]))
    if settings.forgetting and name in (BASE, F16):
        file = task.folder / f"{name}.general.jsonl"
        wanted.append(Questions(file=file, conversations=questions(), max_tokens=MAX_TOKENS))
    first, *others = ask(folder, build, wanted, task.probes, task.engine)
    found.asked[name] = first
    if name == found.twice:
        found.again = others.pop(0).answers
    if others:
        found.general[name] = others[0].answers
    if settings.users:
        found.load[name] = _time(folder, build, settings.users, task)


def _questions(task: Task, name: str, cases: Sequence[Conversation]) -> Questions:
    file = task.folder / f"{name}.jsonl"
    return Questions(file=file, conversations=cases, max_tokens=task.limit)


def _time(folder: Path, build: Build, users: Sequence[int], task: Task) -> list[dict[str, Any]]:
    """`load.measure`, kept."""
    file = task.folder / f"{build.name}.load.json"
    if not file.exists():
        spec = spec_of(folder, build, task.engine, slots=max(users))
        with engine_for(build.format)(spec) as running:
            got = load.measure(running, build.name, task.cases, users, task.limit)
        write_atomic(file, to_json(got))
    rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return rows


def diverge(task: Task, faults: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """How far each GGUF build without a fault is from f16 on the test split; see
    `divergence.Divergence`."""
    from residency.engines.logits import Logits
    from residency.gate.divergence import measure

    texts = asyncio.run(_texts(task.artifacts[F16].path, task.builds[F16], task))
    asked = [n for n, b in task.builds.items() if b.format == "gguf" and n not in faults]
    with ExitStack() as stack:
        sources = {
            name: stack.enter_context(
                Logits(
                    task.artifacts[name].path / task.builds[name].file,
                    context=task.engine.context,
                    threads=task.engine.threads,
                )
            ).read
            for name in asked
        }
        reference = sources.pop(F16)
        found: Mapping[str, Divergence] = measure(reference, sources, texts)
    return {name: to_dict(one) for name, one in found.items()}


async def _texts(folder: Path, build: Build, task: Task) -> list[Any]:
    from residency.gate.divergence import read_texts

    end = fingerprint.read_fingerprint(folder / fingerprint.FILE_NAME).end_of_turn
    with engine_for(build.format)(spec_of(folder, build, task.engine)) as running:
        async with running.client(TIMEOUT) as client:
            spoken = [one for one in task.cases if one.spoken]
            return await read_texts(client, spoken or task.cases, end)
