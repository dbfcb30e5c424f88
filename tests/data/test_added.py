"""Rows from traffic: on their own sides, and never where a test would ask what was taught."""

import dataclasses
import json
from pathlib import Path

import pytest

from residency.conversations import FROM_TRAFFIC, SPLITS, read_conversations
from residency.data import added
from residency.data.added import Added
from residency.errors import DataError
from residency.models.base import BaseModel
from residency.store import Store
from tests.data.rows import row
from tests.data.test_stage import PAIRS, _draft, _write
from tests.tooled import call, conversation


def of(question: str, answer: str = "A", split: str = "train", line: int = 1) -> Added:
    return Added(row=row(question, answer, line), split=split, exchange=f"req_{line}", why="given")


def test_a_row_keeps_its_tools_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / FROM_TRAFFIC
    called = conversation("Free on Tuesday?", call(day="Tuesday"))
    called = dataclasses.replace(called, source=f"{FROM_TRAFFIC}:1")
    added.write(path, [dataclasses.replace(of("Q"), row=called), of("R")])
    assert added.read(path)[0].row == called
    assert path.read_text().count('"tools"') == 1
    path.write_text(path.read_text().replace('"function": {"name"', '"function": {"nome"'))
    with pytest.raises(DataError, match=r"traffic\.jsonl:1: tools"):
        added.read(path)


SIDES = {
    "train": [row("where is my bill for the tooth", "bill", 1)],
    "validation": [row("please move my visit to friday", "visit", 2)],
    "test": [row("the pharmacy has lost my refill", "refill", 3)],
}


def test_what_is_near_another_side_is_left_out() -> None:
    rows = [
        of("the pharmacy has lost my refill!!", line=10),  # near the test split
        of("the pharmacy has lost my refill, too", split="test", line=11),
        of("where is my bill for the tooth?!", split="test", line=12),  # taught already
        of("where is my bill for the teeth", line=13),
        of("do you have parking", line=14),
    ]
    found = added.fitted(rows, SIDES, 0.85)
    assert [one.row.source for one in found.rows] == ["f:11", "f:13", "f:14"]
    assert found.leaks == [("f:10", "f:3"), ("f:12", "f:1")]


def test_of_two_rows_that_are_alike_the_tested_one_stays() -> None:
    rows = [
        of("is there a lift in the house", line=1),
        of("is there a lift in this house", "A", "test", 2),
    ]
    found = added.fitted(rows, SIDES, 0.85)
    assert [one.row.source for one in found.rows] == ["f:2"]


def test_the_very_same_question_says_nothing_new() -> None:
    rows = [
        of("Where is my  bill for the tooth", "bill", line=1),
        of("where is my bill for the tooth", "visit", line=2),
        of("is there a lift", "info", line=3),
        of("IS there a lift", "book", line=4),
    ]
    found = added.fitted(rows, SIDES, 0.85)
    assert [one.row.source for one in found.rows] == ["f:3"]
    assert (len(found.duplicates), len(found.contradictions)) == (1, 2)


def test_a_file_of_rows_comes_back(tmp_path: Path) -> None:
    path = tmp_path / FROM_TRAFFIC
    rows = [of("你好\u2028", "一"), dataclasses.replace(of("two", split="test"), time=1.5)]
    added.write(path, rows)
    assert [
        dataclasses.replace(a, row=b.row) for a, b in zip(added.read(path), rows, strict=True)
    ] == rows
    assert [one.row.messages for one in added.read(path)] == [one.row.messages for one in rows]
    assert [one.row.source for one in added.read(path)] == ["traffic.jsonl:1", "traffic.jsonl:2"]
    assert added.read(tmp_path / "none.jsonl") == []


GOOD = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "JSON"),
        (json.dumps({**GOOD, "split": "tests"}), "needs a split"),
        (json.dumps({"messages": GOOD["messages"][:1], "split": "train"}), "ends with an answer"),
        (json.dumps({**GOOD, "split": "train", "sid": 1}), "sid"),
        (json.dumps({**GOOD}), "split"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / FROM_TRAFFIC
    path.write_text(json.dumps({**GOOD, "split": "train"}) + f"\n\n{line}\n")
    with pytest.raises(DataError) as caught:
        added.read(path)
    assert f"{path}:3: " in caught.value.message and said in caught.value.message


def test_the_data_file_is_split_as_if_there_were_none(base: BaseModel, tmp_path: Path) -> None:
    """The old test split stays one, whatever comes in; a leak is counted, and named."""
    from residency.config import DataSettings
    from residency.data.stage import Inputs, run

    file = _write(tmp_path / "d.jsonl", PAIRS)
    settings = DataSettings(file=file.name, near_duplicate=0.97, system="Desk.", max_tokens=200)
    plain = run(Inputs(file=file, base=base), settings, _draft(tmp_path / "one"))
    sides = _sides(tmp_path / "one", plain)
    asked = sides["test"][0].question
    more = [
        *(
            of(f"is there room {n * 'x'} for {n} cars at the {n}th door", "park", "train", n)
            for n in range(30)
        ),
        of(f"{asked}.", "other", "train", 90),
        of(asked, sides["test"][0].answer, "train", 91),
        of("a word " * 300, line=92),
        of("who looks after the fish in the hall", "info", "test", 93),
    ]
    path = tmp_path / FROM_TRAFFIC
    added.write(path, more)
    record = run(Inputs(file=file, base=base, added=path), settings, _draft(tmp_path / "two"))
    grown = _sides(tmp_path / "two", record)
    for side in SPLITS:
        assert grown[side][: len(sides[side])] == sides[side]
    assert [r.question for r in grown["test"][len(sides["test"]) :]] == [more[-1].row.question]
    assert {r.messages[0].content for r in grown["train"]} == {"Desk."}
    figures = record.figures["traffic"]
    assert (figures["rows"], figures["leaks"]) == (34, 1)
    assert (figures["duplicates"], figures["too_long"]) == (1, 1)
    report = Store(tmp_path / "two").output(record, "dataset").path / "report.json"
    (leak,) = json.loads(report.read_text())["traffic"]["left_out"]["leaks"]["rows"]
    assert leak == f"traffic.jsonl:31 (see {sides['test'][0].source})"


def _sides(workspace: Path, record: object) -> dict[str, list]:
    folder = Store(workspace).output(record, "dataset").path  # type: ignore[arg-type]
    return {side: read_conversations(folder / f"{side}.jsonl") for side in SPLITS}
