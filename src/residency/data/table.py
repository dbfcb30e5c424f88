"""CSV files, with the line on which each record begins."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from residency.errors import DataError

_DELIMITERS = ",;\t"
_LONGEST = 1 << 24  # characters of one field; the module's own limit of 131,072 cuts documents off


def read_table(
    path: Path, text: str
) -> tuple[list[str], Iterator[tuple[int, dict[str, str] | DataError]]]:
    """The column names and, for each record, its first line and its values by column.

    The delimiter is the one of comma, semicolon and tab that the first line has most of. A record
    that is wrong is given as its error. Raises `DataError` when the header is no header.
    """
    first = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=first.count)
    csv.field_size_limit(_LONGEST)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader)]
    except csv.Error as error:
        raise DataError(f"{path}:1: broken CSV: {error}", hint="check the quotes") from None
    if len(header) < 2:
        raise DataError(
            f"{path}:1: neither JSON nor a table: {first[:60]!r}",
            hint="give JSON lines, a JSON array, or CSV with a header line",
        )
    return header, _records(reader, header)


def _records(
    reader: Iterator[list[str]], header: list[str]
) -> Iterator[tuple[int, dict[str, str] | DataError]]:
    while True:
        line = reader.line_num + 1  # type: ignore[attr-defined]
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, DataError(f"broken CSV: {error}", hint="check the quotes from here on")
            return
        if not values:
            continue
        if len(values) != len(header):
            yield (
                line,
                DataError(
                    f"{len(values)} fields where the header has {len(header)}",
                    hint="a field with the delimiter inside needs quotes",
                ),
            )
            continue
        yield line, dict(zip(header, values, strict=True))
