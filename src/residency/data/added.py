"""Rows that came from served traffic: `traffic.jsonl` in the workspace, beside the data file.

One JSON object a line: `messages`, the last of which is the answer to learn; `tools` that the
call defined, if any; `split`, the side that the row has for good; and where it is from: `exchange`
is the id of the recorded call, `why` how its answer came to be trusted, `answered` which model gave
it, `time` when (seconds since 1970). Rows may be edited and deleted by hand.

What is in the data file is split as if there were no such rows, so that a test split stays one.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from residency.conversations import SPLITS, message_from, row_of, tools_from
from residency.data.dedupe import compared, question_key
from residency.errors import DataError
from residency.near_duplicates import canonical, group_near
from residency.store import storage_errors, write_atomic
from residency.types import Conversation, to_dict


@dataclass(frozen=True, kw_only=True, slots=True)
class Added:
    """One row of the file."""

    row: Conversation
    split: str
    exchange: str = ""
    why: str = ""
    answered: str = ""
    time: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """The rows that may be used, and pairs of sources of the others: what was dropped, and the row
    of the data file (or of this one) for which. `leaks` are nearly the same as a row of another
    side: used, a test would ask what was taught."""

    rows: list[Added]
    duplicates: list[tuple[str, str]]
    contradictions: list[tuple[str, str]]
    leaks: list[tuple[str, str]]


class _Turn(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: str
    content: str | None = None


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")

    messages: list[_Turn]
    tools: list[dict[str, Any]] = []
    split: str
    exchange: str = ""
    why: str = ""
    answered: str = ""
    time: float = 0.0


def read(path: Path) -> list[Added]:
    """The rows of `path`, none where there is no file. Raises `DataError` with file and line."""
    if not path.exists():
        return []
    with storage_errors(path):
        text = path.read_text(encoding="utf-8")
    lines = enumerate(text.split("\n"), 1)
    return [_row(line, f"{path.name}:{n}", f"{path}:{n}") for n, line in lines if line.strip()]


def write(path: Path, rows: Iterable[Added]) -> None:
    """Put `rows` in the place of the file. Raises `StorageError`."""
    write_atomic(path, "".join(f"{_text(one)}\n" for one in rows), mode=0o600)


def _text(one: Added) -> str:
    about = {f.name: getattr(one, f.name) for f in dataclasses.fields(one) if f.name != "row"}
    return json.dumps(to_dict({**row_of(one.row), **about}), ensure_ascii=False)


def _row(line: str, source: str, place: str) -> Added:
    try:
        values = _Line.model_validate_json(line)
        messages = tuple(message_from(turn.model_dump()) for turn in values.messages)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(
            f"{place}: {where + ': ' if where else ''}{first['msg']}",
            hint="mend or delete the line; residency data build --from traffic writes it anew",
        ) from None
    if values.split not in SPLITS or not messages or messages[-1].role != "assistant":
        raise DataError(
            f"{place}: a row needs a split ({', '.join(SPLITS)}) and ends with an answer",
            hint="mend or delete the line",
        )
    if (tools := tools_from(values.tools)) is None:
        raise DataError(f"{place}: tools are not OpenAI's", hint="mend or delete the line")
    return Added(
        row=Conversation(messages=messages, source=source, tools=tools),
        **values.model_dump(exclude={"messages", "tools"}),
    )


def fitted(
    rows: Sequence[Added], sides: Mapping[str, Sequence[Conversation]], threshold: float
) -> Fitted:
    """Those of `rows` that say something new and are near no row of another side, `sides` being
    those of the data file. `threshold` is what counts as near (`near_duplicates.group_near`)."""
    found = Fitted(rows=[], duplicates=[], contradictions=[], leaks=[])
    known = {question_key(row): row for side in sides.values() for row in side}
    fresh: list[Added] = []
    for one in rows:
        first = known.setdefault(question_key(one.row), one.row)
        if first is one.row:
            fresh.append(one)
            continue
        same = canonical(first.answer) == canonical(one.row.answer)
        pair = (one.row.source, first.source)
        (found.duplicates if same else found.contradictions).append(pair)
    found.rows.extend(_apart(fresh, sides, threshold, found.leaks))
    return found


def _apart(
    rows: Sequence[Added],
    sides: Mapping[str, Sequence[Conversation]],
    threshold: float,
    leaks: list[tuple[str, str]],
) -> list[Added]:
    """The rows without those that are near another side's: the data file's rows stay where they
    are, and of two of ours the one that is to be tested stays."""
    placed = [(side, row) for side, of in sides.items() for row in of]
    texts = [compared(row) for _, row in placed] + [compared(one.row) for one in rows]
    foes: dict[int, Conversation] = {}
    for group in group_near(texts, threshold):
        theirs = [placed[i] for i in group if i < len(placed)]
        ours = [i - len(placed) for i in group if i >= len(placed)]
        tested = [("test", rows[i].row) for i in ours if rows[i].split == "test"]
        for i in ours:
            found = [row for side, row in theirs or tested if side != rows[i].split]
            foes |= {i: found[0]} if found else {}
    leaks += [(rows[i].row.source, foes[i].source) for i in sorted(foes)]
    return [one for i, one in enumerate(rows) if i not in foes]


def about(value: Fitted) -> dict[str, Any]:
    """How many rows were used, by side, and how many were dropped for what."""
    used = {side: sum(one.split == side for one in value.rows) for side in SPLITS}
    dropped = {
        name: len(getattr(value, name)) for name in ("duplicates", "contradictions", "leaks")
    }
    return {"used": used, **dropped}
