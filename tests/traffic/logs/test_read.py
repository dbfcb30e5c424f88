"""Whole files: found out by their content, read piece by piece, and past what is broken."""

import csv
import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import zstandard

from residency.errors import DataError
from residency.traffic import logs
from residency.traffic.logs import Rejected
from residency.traffic.logs.lines import CHUNK
from residency.traffic.store import TrafficStore
from residency.types import Exchange
from tests.traffic.exchanges import exchange
from tests.traffic.logs import records


def nvidia(number: int, **more: Any) -> dict[str, Any]:
    return {**records.NVIDIA, "timestamp": 1716990379 + number, **more}


MANY = [nvidia(n) for n in range(3)]
TEXT = "".join(json.dumps(one) + "\n" for one in MANY)


def read(path: Path, data: str | bytes, columns: dict[str, str] | None = None) -> list[Any]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return records_of(path, columns)


def records_of(path: Path, columns: dict[str, str] | None = None) -> list[Any]:
    return [one for part in logs.parts(path, columns) for one in part.exchanges()]


def times(found: list[Any]) -> list[float]:
    return [one.time - 1716990379 for one in found if isinstance(one, Exchange)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"  # no ending, for none is looked at


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n\r\n").encode(),
        gzip.compress(TEXT.encode()[:500]) + gzip.compress(TEXT.encode()[500:]),
        zstandard.compress(TEXT.encode()),
        json.dumps(MANY).encode(),
        json.dumps(MANY, indent=2).encode(),
        "\n".join(json.dumps(one, indent=2) for one in MANY).encode(),
        json.dumps({"object": "list", "data": MANY}, indent=1).encode(),
        gzip.compress(json.dumps(MANY).encode()),
    ],
    ids=["lines", "bom", "gzip", "zstd", "array", "indented", "values", "page", "packed array"],
)
def test_one_log_in_many_dresses(path: Path, data: bytes) -> None:
    assert times(read(path, data)) == [0, 1, 2]
    assert [one.id for one in records_of(path) if isinstance(one, Exchange)] == [
        one.id for one in records_of(path) if isinstance(one, Exchange)
    ]


BROKEN = [b"{bad", b'{"request": "\xff"}', b"[1, 2]", b'"text"', b"{" * 300, b'{"request":{}}']


@pytest.mark.parametrize("broken", BROKEN)
def test_a_bad_line_has_its_number_and_reading_goes_on(path: Path, broken: bytes) -> None:
    first, second, third = TEXT.encode().splitlines()
    found = read(path, b"\n".join([first, broken, b"", second, third]))
    assert times(found) == [0, 1, 2]
    (bad,) = [one for one in found if isinstance(one, Rejected)]
    assert (bad.line, bool(bad.reason)) == (2, True)


def test_a_bad_first_line_is_one_bad_line(path: Path) -> None:
    found = read(path, "oops\n" + TEXT)
    assert isinstance(found[0], Rejected)
    assert times(found) == [0, 1, 2]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("harm", ['"request": oops', '"request": "\x01"'])
def test_a_bad_element_costs_itself_only(path: Path, indent: int | None, harm: str) -> None:
    text = json.dumps([nvidia(0), {"timestamp": 5, "mark": 1}, nvidia(1), nvidia(2)], indent=indent)
    found = read(path, text.replace('"mark": 1', harm))
    assert times(found) == [0, 1, 2]
    assert len(found) == 4
    line = 1 if indent is None else text[: text.index('"mark"')].count("\n") - 1
    assert found[1].line == line


def test_an_array_longer_than_the_window(path: Path) -> None:
    long = [nvidia(n, note="é" * (CHUNK // 3)) for n in range(7)]
    assert times(read(path, json.dumps(long, ensure_ascii=False))) == list(range(7))


def test_a_file_that_was_cut(path: Path) -> None:
    assert [type(one) for one in read(path, TEXT[:-9])] == [Exchange, Exchange, Rejected]
    assert [type(one) for one in read(path, json.dumps(MANY)[:-9])] == [Exchange] * 2 + [Rejected]
    noise = "".join(json.dumps(nvidia(n, note=os.urandom(4000).hex())) + "\n" for n in range(600))
    found = read(path, gzip.compress(noise.encode())[:-99])
    assert isinstance(found[-1], Rejected)
    assert "damaged" in found[-1].reason
    assert all(isinstance(one, Exchange) for one in found[:100])


def test_half_a_character_becomes_a_replacement(path: Path) -> None:
    found = read(path, '{"request": "a \\ud83d b \\ud83d\\ude00 \\ude00", "response": "c"}')
    assert found[0].request["messages"][0]["content"] == "a � b 😀 �"


def table(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(
        {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()}
        for row in rows
    )
    return text.getvalue()


@pytest.mark.parametrize("name", ["langfuse", "helicone", "litellm", "pair"])
def test_a_format_as_a_table(path: Path, name: str) -> None:
    whole = read(path, json.dumps(records.ALL[name]))[0]
    (row,) = read(path, table([records.ALL[name]]))
    assert (row.request, row.response, row.time) == (whole.request, whole.response, whole.time)
    assert (row.latency, row.cost, row.tags) == (whole.latency, whole.cost, whole.tags)


ROWS = [
    {"q": "Where, now?", "a": "On its\nway.", "when": 1716990379000, "took_ms": 1500, "team": "x"},
    {"q": "", "a": "", "when": 1716990380000, "took_ms": "", "team": ""},
    {"q": "And mine?", "a": "", "when": "2024-05-29T13:46:21Z", "took_ms": "fast", "team": ""},
]
COLUMNS = {
    "prompt": "q",
    "completion": "a",
    "time": "when",
    "latency": "took_ms",
    "tag.team": "team",
}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_mapped_columns(path: Path, delimiter: str) -> None:
    first, second, third = read(path, table(ROWS, delimiter), COLUMNS)
    assert first.request == {"messages": [{"role": "user", "content": "Where, now?"}]}
    assert first.response["choices"][0]["message"]["content"] == "On its\nway."
    assert (first.latency, first.tags) == (1.5, {"team": "x"})
    assert isinstance(second, Rejected)
    assert second.line == 4
    assert (third.response, third.latency, third.tags) == (None, 0.0, {})
    assert times([first, third]) == [0, 2]


def test_mapped_keys_of_objects(path: Path) -> None:
    lines = "\n".join(json.dumps(row) for row in ROWS)
    assert times(read(path, lines, COLUMNS)) == [0, 2]


def test_a_system_message_before_the_prompt(path: Path) -> None:
    data = table([{"system": "Be kind.", "prompt": "Hi", "completion": "Ho"}])
    (one,) = read(path, data)
    assert [m["content"] for m in one.request["messages"]] == ["Be kind.", "Hi"]


def test_rows_that_are_no_rows(path: Path) -> None:
    data = table(ROWS[:1]).encode() + b"only,two\r\n\xff,b,1,2,3\r\nq,a,1716990380,1,t\r\n"
    found = read(path, data, COLUMNS)
    assert [type(one) for one in found] == [Exchange, Rejected, Rejected, Exchange]
    assert [one.line for one in found[1:3]] == [4, 5]


@pytest.mark.parametrize(
    ("data", "columns", "message"),
    [
        ("who,what\n1,2\n", None, "no log that is known"),
        ("who,what\n1,2\n", {"prompt": "q"}, "no column 'q'"),
        ("who,what\n1,2\n", {"prompt": "who", "colour": "what"}, "no such field"),
        ("who,what\n1,2\n", {"model": "who"}, "no prompt"),
    ],
)
def test_a_file_that_is_no_log(
    path: Path, data: str, columns: dict[str, str] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(path, data, columns)


def test_an_empty_file_has_nothing(path: Path) -> None:
    assert read(path, "") == []
    with pytest.raises(DataError, match="cannot be read"):
        records_of(path / "none")


def test_parquet(path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    row = {k: v for k, v in records.LANGFUSE.items() if k != "metadata"}
    counts = pyarrow.map_(pyarrow.string(), pyarrow.int64())
    columns = {k: pyarrow.array([v]) for k, v in row.items() if k != "usage_details"}
    columns["usage_details"] = pyarrow.array([list(row["usage_details"].items())], counts)
    parquet.write_table(pyarrow.table(columns), path)
    (one,) = records_of(path)
    assert isinstance(one, Exchange)
    assert (one.id, one.latency, one.prompt_tokens) == ("obs-1", 1.5, 40)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="damaged"):
        records_of(path)


def test_the_store_of_another_workspace(path: Path) -> None:
    store = TrafficStore(path)
    many = [exchange(n, tags={"a": n}) for n in range(3)]
    store.add(many)
    store.close()
    assert records_of(path) == many
