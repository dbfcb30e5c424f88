"""The data stage: a file of examples in, three splits and a report out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.config import DataSettings
from residency.conversations import write_conversations
from residency.data import describe
from residency.data.dedupe import compared, drop_repeated
from residency.data.formats import read, require
from residency.data.split import split
from residency.data.tokens import Length, measure, spread
from residency.errors import DataError
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer
from residency.near_duplicates import group_near
from residency.progress import say
from residency.store import Draft, write_atomic
from residency.types import Conversation, Record, to_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """The file of examples, and the base model whose tokens and template count."""

    file: Path
    base: BaseModel


def run(inputs: Inputs, settings: DataSettings, out: Draft) -> Record:
    """Make the data set: read, drop repeats and what is too long, split, describe.

    Output `dataset`: train.jsonl, validation.jsonl, test.jsonl and report.json. Raises `DataError`
    with file and line where the examples cannot be used.
    """
    out.clear()
    read_rows = read(inputs.file, settings.map)
    rows = [row.with_system(settings.system) for row in require(read_rows)]
    deduped = drop_repeated(rows)
    short, lengths, long = _fitting(inputs, deduped.rows, settings.max_tokens)
    groups = group_near([compared(row) for row in short], settings.near_duplicate)
    sides = split(short, groups, settings)
    report = {
        "form": read_rows.form,
        "unused_keys": sorted(read_rows.unused),
        "rows": len(rows),
        "duplicates": describe.dropped(deduped.duplicates),
        "contradictions": describe.dropped(deduped.contradictions),
        "too_long": describe.listed(long),
        "near_duplicate_groups": sum(len(group) > 1 for group in groups),
        "split": {side: len(found) for side, found in sides.items()},
        "tokens": _tokens(lengths),
        "answers": describe.answers(short),
    }
    folder = out.path / "dataset"
    folder.mkdir()
    for side, found in sides.items():
        write_conversations(folder / f"{side}.jsonl", found)
    write_atomic(folder / "report.json", to_json(report, indent=1) + "\n")
    figures = _figures(report)
    _tell(figures, sorted(read_rows.unused))
    return out.finish({"dataset": (folder, "dataset")}, figures)


def _fitting(
    inputs: Inputs, rows: Sequence[Conversation], most: int
) -> tuple[list[Conversation], list[Length], list[str]]:
    """The rows that fit with their lengths, and the sources of the others.

    An answer is never cut: half of one would be learnt as a whole.
    """
    lengths = measure(load_tokenizer(inputs.base.path), rows)
    fits = [length.whole <= most for length in lengths]
    short = [row for row, fit in zip(rows, fits, strict=True) if fit]
    long = [row.source for row, fit in zip(rows, fits, strict=True) if not fit]
    if not short:
        raise DataError(
            f"{inputs.file}: every row is longer than {most} tokens",
            hint="raise [data] max_tokens, or shorten the examples",
        )
    return short, [length for length, fit in zip(lengths, fits, strict=True) if fit], long


def _tokens(lengths: Sequence[Length]) -> dict[str, Any]:
    return {
        "prompt": spread([length.prompt for length in lengths]),
        "answer": spread([length.answer for length in lengths]),
        "total": sum(length.whole for length in lengths),
    }


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    counted = ("duplicates", "contradictions", "too_long")
    plain = ("form", "rows", "near_duplicate_groups", "split", "tokens")
    return {
        **{name: report[name] for name in plain},
        **{name: report[name]["count"] for name in counted},
        "distinct_answers": report["answers"]["distinct"],
    }


def _tell(figures: Mapping[str, Any], unused: Sequence[str]) -> None:
    sides = ", ".join(f"{side} {count}" for side, count in figures["split"].items())
    say(f"{figures['rows']} rows of {figures['form']}: {sides}")
    if unused:
        say(f"not used: {', '.join(unused)}")
    words = {
        "duplicates": "repeat another row: dropped",
        "contradictions": "answer a question again and differently: the first answer is kept",
        "too_long": "are longer than max_tokens: dropped",
    }
    for name, text in words.items():
        if figures[name]:
            say(f"{figures[name]} rows {text}")
