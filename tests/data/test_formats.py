from __future__ import annotations

import json
from pathlib import Path

import pytest

from residency.data.formats import Rows, read, require
from residency.errors import DataError
from tests.tooled import call, tool


@pytest.fixture
def put(tmp_path: Path):
    """A file `data` with the given text, or with JSON lines of the given objects."""

    def write(*rows: object) -> Path:
        path = tmp_path / "data"
        lines = [
            row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows
        ]
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    return write


def _turns(rows: Rows) -> list[list[tuple[str, str]]]:
    return [[(m.role, m.content) for m in row.messages] for row in require(rows)]


FORMS = {
    "messages": {
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": [{"type": "text", "text": "Q"}]},
            {"role": "assistant", "content": "A"},
        ]
    },
    "sharegpt": {
        "system": "S",
        "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}],
    },
    "alpaca": {"system": "S", "instruction": "Q", "input": "", "output": "A"},
    "prompt/completion": {"system": "S", "prompt": "Q", "completion": " A\n"},
    "question/answer": {"system": "S", "question": "Q", "answer": "A"},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_recognised_by_its_content(put, form: str) -> None:
    rows = read(put(FORMS[form]), {})
    assert rows.form == form
    assert _turns(rows) == [[("system", "S"), ("user", "Q"), ("assistant", "A")]]
    assert rows.conversations[0].source == "data:1"


def test_an_array_has_the_lines_of_its_objects(put) -> None:
    text = json.dumps([FORMS["messages"], FORMS["alpaca"]], indent=1)
    rows = read(put(text), {})
    assert rows.form == "alpaca and messages"
    lines = [int(row.source.split(":")[1]) for row in rows.conversations]
    assert [text.split("\n")[line - 1] for line in lines] == [" {", " {"]
    assert lines[0] == 2 < lines[1]


def test_alpacas_input_follows_the_instruction(put) -> None:
    rows = read(put({"instruction": "Sort:", "input": "b a", "output": "a b"}), {})
    assert _turns(rows)[0][0] == ("user", "Sort:\n\nb a")


def test_csv_with_its_own_names(put) -> None:
    rows = read(put("completion,prompt", 'A,"Q, with\na second line"', "B,R"), {})
    assert _turns(rows) == [
        [("user", "Q, with\na second line"), ("assistant", "A")],
        [("user", "R"), ("assistant", "B")],
    ]
    assert [row.source for row in rows.conversations] == ["data:2", "data:4"]


def test_csv_with_a_map(put) -> None:
    path = put("\ufefftext;who;label", "挂号;front;book")
    rows = read(path, {"prompt": "text", "completion": "label", "system": "who"})
    assert _turns(rows) == [[("system", "front"), ("user", "挂号"), ("assistant", "book")]]


def test_a_map_names_the_keys_of_json_too(put) -> None:
    path = put({"text": "Q", "intent": "A", "messages": []})
    rows = read(path, {"prompt": "text", "completion": "intent"})
    assert _turns(rows) == [[("user", "Q"), ("assistant", "A")]]


def test_what_is_not_used_is_told(put) -> None:
    assert read(put({**FORMS["messages"], "tools": [], "id": 1}), {}).unused == {"id"}


def test_tools_and_calls_of_them_are_read(put) -> None:
    asked = {"role": "user", "content": "Free on 周二?"}
    as_object = {"function": {"name": "free_slots", "arguments": {"day": "周二"}}}
    called = {"role": "assistant", "content": None, "tool_calls": [call(day="周二"), as_object]}
    (row,) = require(read(put({"messages": [asked, called], "tools": [tool()]}), {}))
    assert tuple(row.tools) == (tool(),)
    calls = row.messages[-1].extra["tool_calls"]
    assert [one["function"]["arguments"] for one in calls] == ['{"day": "周二"}'] * 2
    assert json.loads(row.answer) == {
        "tool": "free_slots",
        "free_slots.day": "周二",
        "tool 2": "free_slots",
        "free_slots 2.day": "周二",
    }


HALF_A_CALL = {"function": {"name": "f", "arguments": '{"a": 1'}}
A_CALL = {"role": "assistant", "content": None, "tool_calls": [call(day="Monday")]}
GOOD = {"prompt": "Q", "completion": "A"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{"prompt": "Q",', "broken JSON: "),
        ({"prompt": "Q", "completion": "  "}, "the answer is empty"),
        ({"prompt": "Q", "completion": None}, "completion is empty"),
        ({"prompt": "Q", "completion": {"a": 1}}, "completion is a JSON dict, not text"),
        ({"prompt": "", "completion": "A"}, "no user message has text"),
        ({"words": "Q", "kind": "A"}, "unknown form, with the keys words, kind"),
        ("[1]", "a JSON list, not an object"),
        ({"messages": []}, "the last message is not the assistant's"),
        ({"messages": [{"role": "user", "content": "Q"}]}, "the last message is not"),
        ({"messages": [{"role": "robot", "content": "Q"}]}, "unknown role 'robot'"),
        ({"messages": ["Q"]}, "a message without 'role'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "is not text"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]},
            "a tool call without the name of its function",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [HALF_A_CALL]}]},
            "whose arguments are no object",
        ),
        (
            {"messages": [{"role": "user", "content": "Q"}, A_CALL], "tools": [tool("book")]},
            "the answer calls 'free_slots', which is not among the row's tools",
        ),
        ({**FORMS["messages"], "tools": {"name": "f"}}, "tools is not a list of functions"),
        ({**FORMS["messages"], "tools": [{"name": "f"}]}, "tools is not a list of functions"),
    ],
)
def test_a_wrong_row_is_named_with_its_line(put, row: object, words: str) -> None:
    path = put(GOOD, GOOD, row, GOOD)
    rows = read(path, {})
    assert len(rows.conversations) == 3
    with pytest.raises(DataError) as caught:
        require(rows)
    assert caught.value.message.startswith(f"{path}:3: ")
    assert words in caught.value.message
    assert caught.value.hint


def test_further_wrong_rows_are_counted(put) -> None:
    with pytest.raises(DataError, match=r":1: .*\(and 2 more rows"):
        require(read(put("{", "{", "{", GOOD), {}))


@pytest.mark.parametrize(
    ("lines", "columns", "words"),
    [
        (["", "  "], {}, "the file is empty"),
        (["words,kind", "Q,A"], {}, ":1: no column 'prompt'; there are: words, kind"),
        (["text,label", "Q,A"], {"prompt": "text", "completion": "x"}, "no column 'x'"),
        (["a,b", "Q,A"], {"prompt": "a"}, "map has prompt"),
        (["a,b", "Q,A"], {"prompt": "a", "completion": "b", "c": "d"}, "map has c, completion"),
        (["plain words"], {}, ":1: neither JSON nor a table"),
        (["[", '{"prompt": "Q", "completion": "A"},', "{"], {}, ":3: broken JSON"),
        (['[{"prompt": "Q", "completion": "A"}', ""], {}, "the array does not end"),
    ],
)
def test_a_file_that_cannot_be_read(put, lines: list[str], columns: dict, words: str) -> None:
    with pytest.raises(DataError) as caught:
        read(put(*lines), columns)
    assert words in caught.value.message
    assert caught.value.hint


def test_not_utf_8_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("prompt,completion\nQ,A\ncafé,A\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.csv:3: not UTF-8 \(byte 0xe9\)"):
        read(path, {})


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "none", {})
