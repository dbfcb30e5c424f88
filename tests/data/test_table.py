from __future__ import annotations

from pathlib import Path

import pytest

from residency.data.table import read_table
from residency.errors import DataError


def _rows(text: str) -> list[tuple[int, object]]:
    return list(read_table(Path("t.csv"), text)[1])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found(delimiter: str) -> None:
    text = f"a{delimiter}b\r\n1{delimiter}2\r\n\r\n"
    assert _rows(text) == [(2, {"a": "1", "b": "2"})]


def test_a_row_of_another_length_is_an_error_in_its_place() -> None:
    wrong, right = _rows("a,b\n1,2,3\n4,5\n")
    assert wrong[0] == 2
    assert isinstance(wrong[1], DataError)
    assert "3 fields where the header has 2" in wrong[1].message
    assert right == (3, {"a": "4", "b": "5"})


def test_a_quote_that_never_ends_is_named_where_it_begins() -> None:
    rows = _rows('a,b\n1,2\n"3,4\n5,6\n')
    assert rows[0] == (2, {"a": "1", "b": "2"})
    assert rows[1][0] == 3
    assert isinstance(rows[1][1], DataError)


def test_a_long_field_is_read_whole() -> None:
    assert _rows(f"a,b\n{'x' * 200_000},2\n")[0][1]["a"] == "x" * 200_000
