from __future__ import annotations

import json
from pathlib import Path

import pytest

from residency.config import DataSettings
from residency.conversations import SPLITS, read_conversations, row_of
from residency.data.stage import Inputs, run
from residency.errors import DataError
from residency.models.base import BaseModel
from residency.store import Draft, Store
from residency.types import Record
from tests.tooled import call, conversation

KINDS = ("billing", "nurse", "records")
WORDS = ("apple", "bridge", "candle", "dolphin", "engine", "forest", "garden", "harbour")
PAIRS = [
    (f"{a} and {b}, then {kind} {a[::-1]}", json.dumps({"to": kind}))
    for kind in KINDS
    for a in WORDS
    for b in WORDS[:4]
]


def _write(path: Path, pairs: list[tuple[str, str]]) -> Path:
    rows = [json.dumps({"prompt": p, "completion": c}) for p, c in pairs]
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def _draft(workspace: Path, key: str = "k") -> Draft:
    return Store(workspace).open("data", key, inputs={}, settings={}, seed=17)


def _run(file: Path, base: BaseModel, workspace: Path, **changed: object) -> Record:
    settings = DataSettings(file=file.name, near_duplicate=0.99, **changed)  # type: ignore[arg-type]
    return run(Inputs(file=file, base=base), settings, _draft(workspace))


def test_a_data_set_is_made(base: BaseModel, tmp_path: Path) -> None:
    pairs = [*PAIRS, PAIRS[0], (PAIRS[1][0], "no"), ("long " * 300, PAIRS[0][1])]
    file = _write(tmp_path / "d.jsonl", pairs)
    record = _run(file, base, tmp_path, system="Desk.", max_tokens=200)
    folder = Store(tmp_path).output(record, "dataset").path
    sides = {side: read_conversations(folder / f"{side}.jsonl") for side in SPLITS}
    assert record.figures["split"] == {side: len(found) for side, found in sides.items()}
    assert sum(map(len, sides.values())) == len(PAIRS)
    questions = [r.question for found in sides.values() for r in found]
    assert len(set(questions)) == len(PAIRS)
    assert all(r.messages[0].content == "Desk." for found in sides.values() for r in found)
    assert {r.answer for r in sides["test"]} == {json.dumps({"to": kind}) for kind in KINDS}
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["duplicates"]["rows"] == [f"d.jsonl:{len(PAIRS) + 1} (see d.jsonl:1)"]
    assert report["contradictions"]["rows"] == [f"d.jsonl:{len(PAIRS) + 2} (see d.jsonl:2)"]
    assert report["too_long"]["rows"] == [f"d.jsonl:{len(PAIRS) + 3}"]
    assert report["tokens"]["prompt"]["max"] < 200
    assert record.figures["distinct_answers"] == 3


def test_tools_that_the_template_leaves_out(
    base: BaseModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SmolLM2's template has no place for them: rows that differ in nothing else are one row."""
    file = _write(tmp_path / "d.jsonl", PAIRS)
    rows = [row_of(conversation("Free on Tuesday?", tools=(name,))) for name in ("a", "b")]
    rows.append(row_of(conversation("Free on Friday?", call(day="Friday"))))
    with file.open("a") as more:
        more.write("".join(f"\n{json.dumps(row)}" for row in rows))
    record = _run(file, base, tmp_path)
    assert (record.figures["tools_left_out"], record.figures["duplicates"]) == (3, 1)
    assert record.figures["calls_left_out"] == 1
    assert "3 rows define tools" in capsys.readouterr().err
    folder = Store(tmp_path).output(record, "dataset").path
    assert not any('"tools"' in (folder / f"{side}.jsonl").read_text() for side in SPLITS)


def test_again_after_a_kill_the_bytes_are_the_same(base: BaseModel, tmp_path: Path) -> None:
    file = _write(tmp_path / "d.jsonl", PAIRS)
    first = _run(file, base, tmp_path / "one")
    half = _draft(tmp_path / "two").path / "dataset"
    half.mkdir()
    (half / "train.jsonl").write_text("half a ro")
    assert _run(file, base, tmp_path / "two").outputs == first.outputs
    assert _run(file, base, tmp_path / "three", seed=18).outputs != first.outputs


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (PAIRS[:1], "1 rows that differ are too few"),
        (PAIRS[:1] * 50, "1 rows that differ are too few"),
        ([(q * 300, a) for q, a in PAIRS[:20]], "every row is longer than 1024 tokens"),
    ],
)
def test_data_that_cannot_be_learnt(
    base: BaseModel, tmp_path: Path, pairs: list[tuple[str, str]], words: str
) -> None:
    file = _write(tmp_path / "d.jsonl", pairs)
    with pytest.raises(DataError, match=words):
        _run(file, base, tmp_path)
    assert not (tmp_path / ".residency" / "objects").exists()


def test_a_long_talk_loses_its_oldest_turns(base: BaseModel, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "long " * 200}, {"role": "assistant", "content": "yes"}]
    asked = [{"role": "user", "content": "And Friday?"}, {"role": "assistant", "content": "no"}]
    file = _write(tmp_path / "d.jsonl", PAIRS)
    with file.open("a") as more:
        more.write("\n" + json.dumps({"messages": [*turns, *asked]}))
    record = _run(file, base, tmp_path, max_tokens=150)
    assert (record.figures["shortened"], record.figures["too_long"]) == (1, 0)
    folder = Store(tmp_path).output(record, "dataset").path
    rows = [row for side in SPLITS for row in read_conversations(folder / f"{side}.jsonl")]
    (kept,) = (row for row in rows if row.question == "And Friday?")
    assert [message.role for message in kept.messages] == ["user", "assistant"]
