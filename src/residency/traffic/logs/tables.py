"""The rows of tables as records: CSV, Parquet, and the traffic store of another workspace."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from residency.errors import DataError, MissingError
from residency.traffic.logs.lines import LONGEST, Found, Rejected
from residency.traffic.logs.values import opened

_DELIMITERS = ",;\t"
_LONGEST_FIELD = 1 << 24  # the module's own 131,072 characters cut long prompts off
_ROWS = 1000


def header(stream: io.BufferedReader) -> tuple[list[str], Iterator[Found]]:
    """The columns of a CSV file, and its rows without their empty cells. The delimiter is the one
    of comma, semicolon and tab that the first line has most of."""
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    first = text.readline(LONGEST)
    delimiter = max(_DELIMITERS, key=first.count)
    csv.field_size_limit(_LONGEST_FIELD)
    names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    return names, _rows(iter(lambda: text.readline(LONGEST), ""), names, delimiter)


def _rows(lines: Iterator[str], names: list[str], delimiter: str) -> Iterator[Found]:
    reader = csv.reader(lines, delimiter=delimiter)
    while True:
        line = reader.line_num + 2  # the header is line 1
        try:
            cells = next(reader)
            raw = "\x1f".join(cells).encode()
        except StopIteration:
            return
        except UnicodeEncodeError:
            yield Rejected(line, "not UTF-8")
        except csv.Error as error:
            yield Rejected(line, f"broken CSV: {error}")
        else:
            if len(cells) == len(names):
                fields = {name: cell for name, cell in zip(names, cells, strict=True) if cell}
                yield line, fields, raw
            elif cells:
                wanted = f"{len(cells)} cells where the header has {len(names)}"
                yield Rejected(line, wanted)


def parquet(path: Path) -> tuple[list[str], Iterator[Found]]:
    """The columns and rows of a Parquet file. Raises `DataError`, and `MissingError` without
    pyarrow."""
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        hint = 'pip install "residency[parquet]"'
        raise MissingError(f"{path}: Parquet needs pyarrow", hint=hint) from error
    try:
        file = ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: a damaged Parquet file") from error

    def rows() -> Iterator[Found]:
        number = 0
        with file:
            try:
                for batch in file.iter_batches(_ROWS):
                    for row in batch.to_pylist(maps_as_pydicts="lossy"):
                        number += 1
                        # As JSON, which has a form for times and decimals too.
                        yield number, None, json.dumps(row, default=str).encode()
            except (pyarrow.ArrowException, OSError):
                yield Rejected(number + 1, "the Parquet file is damaged from here on")

    return list(file.schema_arrow.names), rows()


def sqlite(path: Path) -> Iterator[Found]:
    """The exchanges of a `traffic.db`. Raises `DataError` where it is another database."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        ) as db:
            db.row_factory = sqlite3.Row
            for number, row in enumerate(db.execute("SELECT * FROM exchanges"), 1):
                cells = {name: opened(row[name]) for name in row.keys()}  # noqa: SIM118
                yield number, cells, repr(tuple(row)).encode()
    except sqlite3.Error as error:
        raise DataError(f"{path}: no traffic.db that can be read ({error})") from error
