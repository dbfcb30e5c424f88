"""Rows without an answer get one from a teacher: distillation from answers begins here."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from residency.config import DataSettings, Priced, Teacher
from residency.conversations import row_of
from residency.data.agreement import called_right, judge_task, most_given
from residency.data.asking import Question, ask, key_of
from residency.data.formats import read, require
from residency.data.journal import Answered, Journal
from residency.errors import RefusedError, SealedError, SettingsError
from residency.progress import say
from residency.sealed import is_local
from residency.store import Draft
from residency.types import Conversation, Message, Record, with_system

_FILE = "labelled.jsonl"
_WARM = 0.7  # where samples are to differ if the teacher is not sure
_JUDGE_TOKENS = 256
_SHOWN = 20  # dropped rows that the record names


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """The file with the prompts, and the journal of all that teachers answered here."""

    file: Path
    journal: Path


def check(teacher: Teacher | None, *, sealed: bool) -> None:
    """Raise `SealedError` or `SettingsError` for a teacher that may not, or cannot, be asked."""
    if teacher is None:
        raise SettingsError(
            "nobody answers the rows without an answer: there is no teacher",
            hint='add [train.teacher] with url = "..." and model = "..."',
        )
    for name, api in (("teacher", teacher), ("teacher.judge", teacher.judge)):
        if api:
            _check_api(f"train.{name}", api, teacher.budget, sealed=sealed)


def _check_api(name: str, api: Priced, budget: float | None, *, sealed: bool) -> None:
    host = urlsplit(api.url).hostname or ""
    if not host:
        raise SettingsError(f"{name}.url: {api.url!r} names no host", hint="http://HOST:PORT/v1")
    if sealed and not is_local(host):
        raise SealedError(
            f"sealed: {name} would be asked at {host}",
            hint="sealed = true in residency.toml forbids it; a teacher on this machine may be",
        )
    prices = (api.price_in, api.price_out)
    if None in prices and (budget is not None or not is_local(host)):
        raise SettingsError(
            f"what does {host} cost? {name} has no prices, so no budget can be kept",
            hint=f"[{name}] price_in and price_out, for a million tokens; 0 where it costs nothing",
        )
    if any(prices) and budget is None:
        raise SettingsError(
            f"{name} costs money, and nothing says how much may be spent",
            hint="set budget in [train.teacher]",
        )


def run(inputs: Inputs, teacher: Teacher, settings: DataSettings, out: Draft) -> Record:
    """Answer what has no answer. Output `labelled`: labelled.jsonl, for the data stage.

    Rows that have an answer stay as they are. Raises `DataError` for a file that cannot be read,
    `RefusedError` at the end of the budget or where nothing is left, and the `EngineError` tree;
    what was answered by then is kept, and not asked again.
    """
    out.clear()
    rows = require(read(inputs.file, settings.map, unanswered=True))
    journal = Journal(inputs.journal, teacher.budget)
    try:
        labelled, dropped = asyncio.run(_label(rows, teacher, journal))
    finally:
        journal.close()
    kept = [row for row in labelled if row is not None]
    figures = _figures(rows, kept, dropped, teacher) | {"spent": journal.spent}
    _tell(figures)
    if not kept:
        raise RefusedError(
            f"{inputs.file}: no answer of the teacher was kept: {_listed(figures['dropped'])}",
            hint="look at [train.teacher] system, samples and agreement",
        )
    folder = out.path / "labelled"
    folder.mkdir()
    _write(folder / _FILE, kept)
    return out.finish({"labelled": (folder, "labelled")}, figures)


async def _label(
    rows: Sequence[Conversation], teacher: Teacher, journal: Journal
) -> tuple[list[Conversation | None], dict[str, str]]:
    """The rows with their answers, None for one that is dropped, and why by its source."""
    without = [row for row in rows if not row.answer]
    open_rows = [row for row in without if not row.tools]
    asked = {row.source: _questions(row, teacher) for row in open_rows}
    every = [question for questions in asked.values() for question in questions]
    await ask(teacher, every, journal, teacher.concurrency, "teacher")
    answers: dict[str, str] = {}
    # A teacher's call of a tool is no text, and a text where a call is right would teach wrong.
    dropped = {row.source: "it has tools" for row in without if row.tools}
    for source, questions in asked.items():
        given = [journal.answers[key_of(teacher, one)] for one in questions]
        text, why = _choose(given, teacher.agreement)
        answers[source], dropped[source] = text, why
    if judge := teacher.judge:
        verdicts = {
            row.source: _judge_question(row, answers[row.source])
            for row in open_rows
            if not dropped[row.source]
        }
        await ask(judge, list(verdicts.values()), journal, teacher.concurrency, "judge")
        for source, question in verdicts.items():
            if not called_right(journal.answers[key_of(judge, question)].text):
                dropped[source] = "the judge calls it wrong"
    dropped = {source: why for source, why in dropped.items() if why}
    return [_answered(row, answers, dropped) for row in rows], dropped


def _questions(row: Conversation, teacher: Teacher) -> list[Question]:
    mine = tuple(m for m in row.prompt if m.role != "system" or not teacher.system)
    warmth = 0.0 if teacher.samples == 1 else _WARM
    return [
        Question(
            messages=with_system(mine, teacher.system),
            temperature=warmth if teacher.temperature is None else teacher.temperature,
            max_tokens=teacher.max_tokens,
            sample=sample,
            source=row.source,
        )
        for sample in range(teacher.samples)
    ]


def _choose(given: Sequence[Answered], agreement: float) -> tuple[str, str]:
    """The answer to learn, or why there is none."""
    if any(one.refused for one in given):
        return "", "the teacher refuses it"
    if any(one.finish_reason == "length" for one in given):
        return "", "the answer was cut off at max_tokens"
    agreed = most_given([one.text for one in given])
    if not agreed.text:
        return "", "the answer is empty"
    if agreed.share < agreement:
        return "", "the samples disagree"
    return agreed.text, ""


def _judge_question(row: Conversation, answer: str) -> Question:
    return Question(
        messages=judge_task(row.prompt, answer),
        temperature=0.0,
        max_tokens=_JUDGE_TOKENS,
        sample=0,
        source=row.source,
    )


def _answered(
    row: Conversation, answers: Mapping[str, str], dropped: Mapping[str, str]
) -> Conversation | None:
    if row.answer:
        return row
    if row.source in dropped:
        return None
    said = Message(role="assistant", content=answers[row.source])
    return dataclasses.replace(row, messages=(*row.prompt, said))


def _write(path: Path, rows: Sequence[Conversation]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row_of(row), ensure_ascii=False) + "\n")


def _figures(
    rows: Sequence[Conversation],
    kept: Sequence[Conversation],
    dropped: Mapping[str, str],
    teacher: Teacher,
) -> dict[str, Any]:
    """Where the answers are from, and what became of them."""
    judge = teacher.judge
    return {
        "teacher": {"model": teacher.model, "host": urlsplit(teacher.url).hostname},
        "judge": {"model": judge.model, "host": urlsplit(judge.url).hostname} if judge else None,
        "rows": len(rows),
        "asked": sum(not (row.answer or row.tools) for row in rows),
        "kept": len(kept),
        "dropped": dict(sorted(Counter(dropped.values()).items())),
        "dropped_rows": dict(list(dropped.items())[:_SHOWN]),
    }


def _tell(figures: Mapping[str, Any]) -> None:
    lost = _listed(figures["dropped"])
    say(
        f"{figures['asked']} of {figures['rows']} rows asked of {figures['teacher']['model']}, "
        f"{figures['kept']} rows to learn from, {figures['spent']:.4g} spent"
        + (f"; dropped: {lost}" if lost else "")
    )


def _listed(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} ({why})" for why, count in dropped.items())
