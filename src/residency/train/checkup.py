"""The model before training and after: its loss, a few answers, and what it knows in general."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.conversations import stream_conversations
from residency.general import questions, right
from residency.models.chat import load_tokenizer
from residency.store import write_atomic
from residency.train import causes, ranks, shards
from residency.train.answers import Example, check, forgotten
from residency.train.causes import Finding
from residency.train.diagnosis import Diagnosis, History, Retry, Start, thinned
from residency.train.job import Job
from residency.train.rows import open_rows
from residency.train.samples import Reply, ask, right_words, start_of
from residency.types import Conversation, to_json
from residency.words import words

FILE_NAME = "diagnosis.json"
EXAMPLES = 6
GENERAL_TOKENS = 24
"""Enough for a sentence, in which the base model answers. Half of the general questions are asked:
with all of them this look, before and after, would cost the shipped chain ten seconds more."""
_LONGEST, _MORE = 64, 8  # tokens of an example's answer, and beyond the longest right one
_START_ROWS = 16
_LOOKED_AT = 500  # training rows whose learnt tokens are looked at
_READ = 5000  # training rows whose words count as known
_POINTS = 300  # of a curve on the page
_CHARACTERS = 1500


@dataclass(frozen=True, kw_only=True, slots=True)
class Before:
    """What the model was before the first step. `general` says which questions it had right."""

    start: Start
    answers: tuple[str, ...]
    general: tuple[bool, ...]


def before(model: Any, job: Job) -> Before:
    """Look at the untrained model; kept in the job's folder, so that a resumed run does not ask
    again. Of several processes the first looks, and the others wait, or look as well where the
    model is in shards."""
    path = job.folder / "before.json"
    if shards.asked(model) and not path.exists():
        tokenizer, rows = load_tokenizer(job.base), open_rows(job.rows)
        some = rows.validation.select(range(min(_START_ROWS, len(rows.validation))))
        replies = _examples(model, tokenizer, _chosen(job))
        found = Before(
            start=start_of(model, list(some)),
            answers=tuple(reply.text for reply in replies),
            general=tuple(_general(model, tokenizer)),
        )
        if ranks.rank() == 0:
            write_atomic(path, to_json(found) + "\n")
    ranks.barrier()
    values = json.loads(path.read_text(encoding="utf-8"))
    return Before(
        start=Start(**values["start"]),
        answers=tuple(values["answers"]),
        general=tuple(values["general"]),
    )


def after(model: Any, tokenizer: Any, job: Job, was: Before) -> dict[str, Any]:
    """Look at the trained model: examples beside what was said before, and what is wrong."""
    rows = _chosen(job)
    replies = _examples(model, tokenizer, rows)
    bounded = _longest(tokenizer, rows) <= _LONGEST
    shown = [
        Example(
            source=row.source,
            question=_cut(row.question),
            reference=_cut(right_words(tokenizer, row)[1]),
            before=_cut(text),
            after=_cut(reply.text),
            ended=reply.ended or not bounded,
        )
        for row, text, reply in zip(rows, was.answers, replies, strict=True)
    ]
    general = _general(model, tokenizer)
    return {
        "examples": shown,
        "general": {"asked": len(general), "before": sum(was.general), "after": sum(general)},
        "findings": [*check(shown, _known(job)), *forgotten(was.general, general)],
    }


def causes_of(tokenizer: Any, job: Job) -> list[Finding]:
    """What is wrong with the training rows, with what is learnt of them, and with the template."""
    rows = open_rows(job.rows)
    path = job.dataset / "report.json"
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found = [*causes.of_template(tokenizer, job.base), *causes.of_data(_rows(job), report)]
    # Rows and conversations stand side by side, but where some were left out, or a text was added.
    if len(rows.train) == sum(1 for _ in _rows(job)):
        step = max(1, len(rows.train) // _LOOKED_AT)
        some = list(rows.train.select(range(0, len(rows.train), step)))
        told = list(itertools.islice(_rows(job), 0, None, step))
        found += causes.of_tokens(tokenizer, some, told)
    return found


def write(
    folder: Path,
    history: History,
    diagnosis: Diagnosis,
    retries: Sequence[Retry],
    found: dict[str, Any],
) -> None:
    """Put what is known of a run into `folder`, for the page."""
    curves = {
        name: thinned(getattr(history, name), _POINTS)
        for name in ("train", "validation", "norms", "rates")
    }
    folder.mkdir(parents=True, exist_ok=True)
    whole = {
        "start": history.start,
        "curves": curves,
        "diagnosis": diagnosis,
        "retries": list(retries),
        **found,
    }
    write_atomic(folder / FILE_NAME, to_json(whole, indent=1) + "\n")


def _rows(job: Job) -> Iterator[Conversation]:
    return stream_conversations(job.dataset / "train.jsonl")


def _chosen(job: Job) -> list[Conversation]:
    rows = stream_conversations(job.dataset / "validation.jsonl")
    return list(itertools.islice(rows, EXAMPLES))


def _examples(model: Any, tokenizer: Any, rows: Sequence[Conversation]) -> list[Reply]:
    limit = min(_LONGEST, _longest(tokenizer, rows) + _MORE)
    return ask(model, tokenizer, rows, limit)


def _longest(tokenizer: Any, rows: Sequence[Conversation]) -> int:
    return max(right_words(tokenizer, row)[0] for row in rows)


def _general(model: Any, tokenizer: Any) -> list[bool]:
    suite = questions()[::2]
    replies = ask(model, tokenizer, suite, GENERAL_TOKENS)
    return right([reply.text for reply in replies], suite)


def _known(job: Job) -> frozenset[str]:
    rows = itertools.islice(_rows(job), _READ)
    return frozenset(itertools.chain.from_iterable(map(_words, rows)))


def _words(row: Conversation) -> Iterator[str]:
    for message in row.messages:
        yield from words(message.content)


def _cut(text: str) -> str:
    more = len(text) - _CHARACTERS
    return text if more <= 0 else f"{text[:_CHARACTERS]}… ({more} more characters)"
