"""The data stage: a file of examples in, three splits and a report out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from residency.config import DataSettings
from residency.conversations import write_conversations
from residency.data import added, describe
from residency.data.dedupe import compared, drop_repeated
from residency.data.formats import read, require
from residency.data.split import split
from residency.data.tokens import Fitting, Length, fit, spread, without_unread_tools
from residency.errors import DataError
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer
from residency.near_duplicates import group_near
from residency.progress import say
from residency.store import Draft, write_atomic
from residency.types import Conversation, Record, to_json

_UNREAD = ("tools_left_out", "calls_left_out")


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """The file of examples, the base model whose tokens and template count, and the rows that came
    from traffic (`data.added`), where there are any."""

    file: Path
    base: BaseModel
    added: Path | None = None


def run(inputs: Inputs, settings: DataSettings, out: Draft) -> Record:
    """Make the data set: read, drop repeats and what is too long, split, describe.

    Output `dataset`: train.jsonl, validation.jsonl, test.jsonl and report.json. Raises `DataError`
    with file and line where the examples cannot be used.
    """
    out.clear()
    read_rows = read(inputs.file, settings.map)
    tokenizer = load_tokenizer(inputs.base.path)
    rows = [row.with_system(settings.system) for row in require(read_rows)]
    rows, unread = without_unread_tools(tokenizer, rows)
    deduped = drop_repeated(rows)
    fitting = _fitting(inputs, tokenizer, deduped.rows, settings.max_tokens)
    short = fitting.rows
    groups = group_near([compared(row) for row in short], settings.near_duplicate)
    sides = split(short, groups, settings)
    more = _added(inputs.added, tokenizer, settings, sides) if inputs.added else {}
    report = {
        "form": read_rows.form,
        "unused_keys": sorted(read_rows.unused),
        "rows": len(rows),
        "duplicates": describe.dropped(deduped.duplicates),
        "contradictions": describe.dropped(deduped.contradictions),
        "shortened": describe.listed(fitting.shortened),
        "too_long": describe.listed(fitting.too_long),
        "near_duplicate_groups": sum(len(group) > 1 for group in groups),
        "split": {side: len(found) for side, found in sides.items()},
        "tokens": _tokens(fitting.lengths),
        "answers": describe.answers(short),
        **unread,
        **more,
    }
    folder = out.path / "dataset"
    folder.mkdir()
    for side, found in sides.items():
        write_conversations(folder / f"{side}.jsonl", found)
    write_atomic(folder / "report.json", to_json(report, indent=1) + "\n")
    figures = _figures(report)
    _tell(figures, sorted(read_rows.unused))
    return out.finish({"dataset": (folder, "dataset")}, figures)


def _added(
    file: Path, tokenizer: Any, settings: DataSettings, sides: dict[str, list[Conversation]]
) -> dict[str, Any]:
    """Put the rows from traffic to the sides that they have, and say what became of them."""
    rows = [replace(a, row=a.row.with_system(settings.system)) for a in added.read(file)]
    read_rows, unread = without_unread_tools(tokenizer, [one.row for one in rows])
    fitting = fit(tokenizer, read_rows, settings.max_tokens)
    short = {row.source: row for row in fitting.rows}
    kept = [replace(one, row=short[one.row.source]) for one in rows if one.row.source in short]
    found = added.fitted(kept, sides, settings.near_duplicate)
    for one in found.rows:
        sides[one.split].append(one.row)
    about = added.about(found)
    counts = {"rows": len(rows), **about, "too_long": len(fitting.too_long), **unread}
    left_out = {
        name: describe.dropped(getattr(found, name))
        for name in ("duplicates", "contradictions", "leaks")
    }
    return {"traffic": {**counts, "left_out": left_out}}


def _fitting(inputs: Inputs, tokenizer: Any, rows: Sequence[Conversation], most: int) -> Fitting:
    if not rows:
        raise DataError(
            f"{inputs.file}: every answer is a call of a tool, and the base model's chat template "
            "has no place for tools",
            hint="take another base model",
        )
    found = fit(tokenizer, rows, most)
    if not found.rows:
        raise DataError(
            f"{inputs.file}: every row is longer than {most} tokens",
            hint="raise [data] max_tokens, or shorten the examples",
        )
    return found


def _tokens(lengths: Sequence[Length]) -> dict[str, Any]:
    return {
        "prompt": spread([length.prompt for length in lengths]),
        "answer": spread([length.answer for length in lengths]),
        "total": sum(length.whole for length in lengths),
    }


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    counted = ("duplicates", "contradictions", "shortened", "too_long")
    plain = ("form", "rows", "near_duplicate_groups", "split", "tokens")
    unread = {name: report[name] for name in _UNREAD if name in report}
    traffic = {k: v for k, v in report.get("traffic", {}).items() if k != "left_out"}
    return {
        **({"traffic": traffic} if traffic else {}),
        **unread,
        **{name: report[name] for name in plain},
        **{name: report[name]["count"] for name in counted},
        "distinct_answers": report["answers"]["distinct"],
    }


def _tell(figures: Mapping[str, Any], unused: Sequence[str]) -> None:
    sides = ", ".join(f"{side} {count}" for side, count in figures["split"].items())
    say(f"{figures['rows']} rows of {figures['form']}: {sides}")
    if traffic := figures.get("traffic"):
        used = ", ".join(f"{side} {count}" for side, count in traffic["used"].items())
        say(f"of them from traffic: {used}; {traffic['leaks']} too near to another side: left out")
    unread, calls = (figures.get(n, 0) + (traffic or {}).get(n, 0) for n in _UNREAD)
    if unread:
        say(
            f"{unread} rows define tools, which the base model's chat template leaves out: they "
            f"are taught without, and the endpoint will refuse tools; {calls} rows whose answer is "
            "a call are dropped"
        )
    if unused:
        say(f"not used: {', '.join(unused)}")
    words = {
        "duplicates": "repeat another row: dropped",
        "contradictions": "answer a question again and differently: the first answer is kept",
        "shortened": "were longer than max_tokens: their oldest turns are left out",
        "too_long": "are longer than max_tokens: dropped",
    }
    for name, text in words.items():
        if figures[name]:
            say(f"{figures[name]} rows {text}")
