from __future__ import annotations

import os
from pathlib import Path

import pytest

from residency.errors import SettingsError
from residency.gate.scorer import score_all
from residency.types import Conversation, Message

CASES = [
    Conversation(
        messages=(
            Message(role="user", content="多少?"),
            Message(role="assistant", content=f"right {n}"),
        ),
        source=f"test.jsonl:{n}",
    )
    for n in range(1, 6)
]
ANSWERS = ["right 1", "raise", "nan", "hang", "die"]
SCORER = """\
import os, time
print("a scorer may print")

def score(messages, answer, reference):
    assert messages == [{"role": "user", "content": "多少?"}]
    if answer == "raise":
        print(1 / 0)
    if answer == "nan":
        return float("nan")
    if answer == "hang":
        time.sleep(3600)
    if answer == "die":
        os._exit(3)
    return answer == reference

def two(messages, answer, reference):
    return {"exact": float(answer == reference), "length": 0.5}

def words(messages, answer, reference):
    return {"length": "long"}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(SCORER, encoding="utf-8")
    return tmp_path


def test_each_fault_is_a_result_of_its_case(workspace: Path) -> None:
    found = score_all("mine.py:score", workspace, CASES, ANSWERS, seconds=1.0)
    file = workspace / "mine.py"
    assert [one.source for one in found] == [case.source for case in CASES]
    assert found[0].scores == {"score": 1.0}
    assert [one.error for one in found[1:]] == [
        f"test.jsonl:2: {file}:7: ZeroDivisionError: division by zero",
        f"test.jsonl:3: {file}:4: it gave nan, not a number in 0..1",
        f"test.jsonl:4: {file}:11: not finished after 1 s",
        f"test.jsonl:5: {file}: its process ended: a scorer may print",
    ]


def test_scores_by_name(workspace: Path) -> None:
    found = score_all("mine.py:two", workspace, CASES[:2], ["right 1", "x"])
    assert [one.scores for one in found] == [
        {"exact": 1.0, "length": 0.5},
        {"exact": 0.0, "length": 0.5},
    ]
    (wrong,) = score_all("mine.py:words", workspace, CASES[:1], ["x"])
    assert wrong.error.endswith("mine.py:19: length is 'long', not a number in 0..1")


def test_one_that_always_hangs_is_given_up(workspace: Path) -> None:
    found = score_all("mine.py:score", workspace, CASES, ["hang"] * 5, seconds=0.5)
    assert [one.error.endswith("s") for one in found[:3]] == [True] * 3
    assert ["not scored" in one.error for one in found] == [False] * 3 + [True] * 2


@pytest.mark.parametrize(
    ("scorer", "code", "said"),
    [
        ("mine.py", "", "there is no 'mine.py'"),
        ("other.py:score", "", "there is no 'other.py:score'"),
        ("mine.py:absent", "x = 1", "AttributeError"),
        ("mine.py:score", "def score(:", r"mine\.py:1: "),
        ("mine.py:score", "\nimport nothing_like_it", r"mine\.py:2: ModuleNotFoundError"),
        ("mine.py:score", "import os\nos._exit(1)", "its process ended"),
    ],
)
def test_what_is_no_scorer_is_refused(tmp_path: Path, scorer: str, code: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    with pytest.raises(SettingsError, match=said):
        score_all(scorer, tmp_path, CASES, ANSWERS)


def test_no_process_is_left(workspace: Path) -> None:
    (workspace / "mine.py").write_text(
        "import os\n"
        "def score(messages, answer, reference):\n"
        "    open('pid', 'w').write(str(os.getpid()))\n"
        "    return 1"
    )
    here = Path.cwd()
    os.chdir(workspace)
    try:
        score_all("mine.py:score", workspace, CASES[:1], ["x"])
    finally:
        os.chdir(here)
    assert not Path(f"/proc/{(workspace / 'pid').read_text()}").exists()
