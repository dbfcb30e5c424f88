"""Logs of other systems as exchanges, recognised by what is in them and never held in memory."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from residency.errors import DataError
from residency.traffic.logs import formats, lines, mapped, tables
from residency.traffic.logs.formats import Record, recognise
from residency.traffic.logs.lines import Found, Rejected
from residency.traffic.logs.values import Bad
from residency.types import Exchange

__all__ = ["Part", "Rejected", "parts", "recognise"]

_PEEK = 1 << 16
_RECORDS, _ROOM = 2000, 4_000_000  # of a part, and bytes of it
_Reader = Callable[[Record], Exchange | None]


@dataclass(frozen=True, slots=True)
class Part:
    """Records that follow one another in `path`, for any process to make exchanges of."""

    path: Path
    time: float
    reader: _Reader
    found: list[Found]

    def exchanges(self) -> Iterator[Exchange | Rejected]:
        """The exchanges and the bad records, in order.

        A record has the same `id` whenever it is read; one without a time has its file's. Records
        that are no calls of a model are left out.
        """
        for one in list(map(lines.parsed, self.found)):
            if isinstance(one, Rejected):
                yield one
            else:
                yield from _exchanges(*one, self.time, self.reader)


def parts(path: Path, mapping: Mapping[str, str] | None = None) -> Iterator[Part]:
    """A log in parts of bounded size; `mapping` says which column of a table or key of an object
    holds a field (`mapped.FIELDS`). Raises `DataError` for a file that is no log."""
    if mapping:
        mapped.check(mapping)
    with lines.unpacked(path) as stream:
        found, reader = _opened(path, stream, mapping or {})
        part = Part(path, path.stat().st_mtime, reader, [])
        size = 0
        for one in _readable(found):
            part.found.append(one)
            size += 0 if isinstance(one, Rejected) else len(one[2])
            if len(part.found) == _RECORDS or size > _ROOM:
                yield part
                part, size = replace(part, found=[]), 0
        yield part


def _readable(found: Iterator[Found]) -> Iterator[Found]:
    line = 0
    try:
        for one in found:
            line = one.line if isinstance(one, Rejected) else one[0]
            yield one
    except OSError as error:
        yield Rejected(line + 1, f"cannot be read from here on ({error.strerror or error})")


def _opened(
    path: Path, stream: io.BufferedReader, columns: Mapping[str, str]
) -> tuple[Iterator[Found], _Reader]:
    """The records of a file, and what makes exchanges of them."""
    chosen: _Reader = partial(mapped.read, columns=columns) if columns else _recognised
    try:
        sample = stream.peek(_PEEK)[:_PEEK].removeprefix(codecs.BOM_UTF8).lstrip()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if not sample:
        return iter(()), chosen
    if sample.startswith(b"SQLite format 3\0"):
        return tables.sqlite(path), formats.own
    if sample.startswith(b"PAR1"):
        names, found = tables.parquet(path)
    elif sample.startswith(b"[") or _spread(sample):
        return lines.json_values(stream), chosen
    elif sample.startswith(b"{") or b"\n{" in sample:
        return lines.json_lines(stream), chosen
    else:
        names, found = tables.header(stream)
    return found, _table(path, names, columns)


def _spread(sample: bytes) -> bool:
    """Whether it begins with an object that goes on over more lines."""
    first, _, rest = sample.partition(b"\n")
    if not first.startswith(b"{"):
        return False
    return first.rstrip()[-1:] in (b"{", b"[", b",") and not rest.lstrip().startswith(b"{")


def _table(path: Path, names: list[str], columns: Mapping[str, str]) -> _Reader:
    """What reads rows with these columns: as they are mapped, in a format that is known, or by the
    names of the fields. Raises `DataError`."""
    known = recognise(dict.fromkeys(names))
    if not columns and known:
        return partial(formats.read, known)
    columns = columns or {name: name for name in mapped.FIELDS if name in names}
    missing = [column for column in columns.values() if column not in names]
    if missing or not columns.keys() & {"prompt", "completion"}:
        raise DataError(
            f"{path}: no column {missing[0]!r}" if missing else f"{path}: no log that is known",
            hint=f"--map prompt=COLUMN names one of its columns: {', '.join(names)[:200]}",
        )
    return partial(mapped.read, columns=columns)


def _recognised(record: Record) -> Exchange | None:
    if name := recognise(record.fields):
        return formats.read(name, record)
    raise Bad("no format that is known")


def _exchanges(
    line: int, value: Any, raw: bytes, time: float, reader: _Reader
) -> Iterator[Exchange | Rejected]:
    """What a record gives: one exchange as a rule, more where it is a page of records."""
    if not isinstance(value, dict):
        yield Rejected(line, "not an object")
        return
    page = value.get("data")
    if isinstance(page, list) and page and not recognise(value):
        for one in page:
            yield from _exchanges(line, one, json.dumps(one).encode(), time, reader)
        return
    payload = value.get("standard_logging_object")  # in LiteLLM's own envelope
    try:
        exchange = reader(Record(payload if isinstance(payload, dict) else value, raw, time))
    except Bad as error:
        yield Rejected(line, str(error))
    else:
        if exchange:
            yield exchange
