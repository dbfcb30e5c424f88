"""A teacher that answers, stumbles and sends bills: a real process behind a real socket."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from residency.config import DataSettings, Priced, Teacher
from residency.data import label
from residency.errors import DataError, EngineRejected, RefusedError, SealedError, SettingsError
from residency.store import Store
from residency.types import Record
from tests.tooled import tool

ROOT = Path(__file__).parents[2]
PRICE = 1000.0  # for a million tokens: a thousandth for each


class Fake:
    def __init__(self, *flags: str) -> None:
        command = [sys.executable, "-m", "tests.fakes.teacher", "--price", str(PRICE), *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/fake/state") as answer:
            return dict(json.load(answer))

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def fake() -> Iterator[Callable[..., Fake]]:
    started: list[Fake] = []

    def start(*flags: str) -> Fake:
        started.append(Fake(*flags))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def teacher(url: str, **given: Any) -> Teacher:
    whole = {"model": "big", "price_in": PRICE, "price_out": PRICE, "budget": 100.0, **given}
    return Teacher(url=url, **whole)


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def prompts(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"say number {n}"} for n in range(count)]


def run(folder: Path, file: Path, given: Teacher) -> tuple[Record, list[tuple[str, str]]]:
    """The record, and what is learnt: question and answer of each row."""
    store = Store(folder)
    draft = store.open("label", "k", inputs={}, settings={}, seed=0)
    made = label.run(
        label.Inputs(file=file, journal=folder / "teacher.jsonl"),
        given,
        DataSettings(file=file.name),
        draft,
    )
    (out,) = store.output(made, "labelled").path.iterdir()
    rows = [json.loads(line)["messages"] for line in out.read_text().splitlines()]
    return made, [(row[-2]["content"], row[-1]["content"]) for row in rows]


def test_only_what_has_no_answer_is_asked(fake, tmp_path: Path) -> None:
    api = fake()
    file = write(
        tmp_path / "p.jsonl",
        {"prompt": "one", "completion": "mine"},
        {"prompt": "two"},
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "三"}]},
        {"instruction": "four", "input": "a", "output": ""},
        {"conversations": [{"from": "human", "value": "five"}]},
        {"messages": [{"role": "user", "content": "six"}], "tools": [tool()]},
    )
    record, learnt = run(tmp_path, file, teacher(api.url, system="Shout."))
    assert learnt == [
        ("one", "mine"),
        ("two", "TWO"),
        ("三", "三"),
        ("four\n\na", "FOUR\n\nA"),
        ("five", "FIVE"),
    ]
    assert record.figures["asked"] == 4
    assert record.figures["dropped"] == {"it has tools": 1}
    assert record.figures["teacher"] == {"model": "big", "host": "127.0.0.1"}
    assert record.figures["spent"] == pytest.approx(api.state()["billed"])
    # The teacher's own instruction was sent, and the row's was not.
    assert "Shout" not in json.dumps(learnt)


def test_answers_that_stumble_come_in_the_end(fake, tmp_path: Path) -> None:
    api = fake("--trouble")
    file = write(tmp_path / "p.jsonl", *prompts(20))
    record, learnt = run(tmp_path, file, teacher(api.url, timeout=1.0, max_tokens=8))
    assert learnt == [(f"say number {n}", f"SAY NUMBER {n}") for n in range(20)]
    state = api.state()
    assert state["requests"] == 36  # all but every fifth stumble once
    assert state["most_at_once"] <= 4
    assert state["early"] == 0  # nobody asks before Retry-After is over
    # What went away with a question in its hands counts as billed in full.
    assert state["billed"] <= record.figures["spent"] <= 100.0


@pytest.mark.parametrize("trouble", [(), ("--trouble",)])
def test_the_budget_is_never_passed(fake, tmp_path: Path, trouble: tuple[str, ...]) -> None:
    api = fake("--delay", "0.02", *trouble)
    file = write(tmp_path / "p.jsonl", *prompts(60))
    given = teacher(api.url, budget=0.3, concurrency=16, timeout=1.0, max_tokens=8)
    with pytest.raises(RefusedError, match=r"budget is 0\.3"):
        run(tmp_path, file, given)
    first = api.state()
    assert 0 < first["billed"] <= 0.3 + 1e-9
    with pytest.raises(RefusedError):
        run(tmp_path, file, given)
    assert api.state()["billed"] <= 0.3 + 1e-9
    _, learnt = run(tmp_path, file, given.model_copy(update={"budget": 100.0}))
    assert len(learnt) == 60
    asked = api.state()["requests"]
    run(tmp_path, file, given.model_copy(update={"budget": 100.0}))
    assert api.state()["requests"] == asked  # all is kept


def test_the_most_of_a_budget_is_used(fake, tmp_path: Path) -> None:
    """What is set aside comes back: six tokens of a question cost less than its bytes might."""
    api = fake("--delay", "0.01")
    file = write(tmp_path / "p.jsonl", *prompts(200))
    with pytest.raises(RefusedError):
        run(tmp_path, file, teacher(api.url, budget=0.6, concurrency=16, max_tokens=8))
    # Less than the most that one more question could cost is left: 28 bytes and 32 of frame, 8.
    assert api.state()["billed"] > 0.6 - 70 * PRICE / 1e6


def test_a_kill_loses_no_answer_that_came(fake, tmp_path: Path) -> None:
    api = fake("--delay", "0.05")
    file = write(tmp_path / "p.jsonl", *prompts(40))
    workspace = tmp_path / "desk"
    workspace.mkdir()
    (workspace / "residency.toml").write_text(
        f"""name = "desk"
[data]
file = "{file}"
[train]
method = "distill"
[train.teacher]
url = "{api.url}"
model = "big"
price_in = {PRICE}
price_out = {PRICE}
budget = 100.0
concurrency = 2
max_tokens = 8
"""
    )
    command = [sys.executable, "-m", "residency", "data", "label", "--workspace", str(workspace)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = workspace / ".residency" / "teacher.jsonl"
    while not journal.exists() or journal.read_text().count('"answer"') < 10:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    answered = journal.read_text().count('"answer"')
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["kept"] == 40
    state = api.state()
    # Only what was under way at the kill, two at most, is asked again, and its price is kept in
    # mind twice: as what it may have cost, and as what it cost.
    assert state["requests"] <= 42
    assert answered < 40
    assert state["billed"] <= said["spent"]


def test_what_is_not_to_be_learnt_is_dropped_and_counted(fake, tmp_path: Path) -> None:
    api = fake()
    file = write(
        tmp_path / "p.jsonl",
        {"prompt": "sure"},
        {"prompt": "unsure"},
        {"prompt": "forbidden"},
        {"prompt": "endless"},
        {"prompt": "wrong"},
    )
    given = teacher(
        api.url, samples=3, judge=Priced(url=api.url, model="j", price_in=1.0, price_out=1.0)
    )
    record, learnt = run(tmp_path, file, given)
    assert learnt == [("sure", "SURE")]
    assert record.figures["dropped"] == {
        "the answer was cut off at max_tokens": 1,
        "the judge calls it wrong": 1,
        "the samples disagree": 1,
        "the teacher refuses it": 1,
    }
    assert record.figures["dropped_rows"]["p.jsonl:2"] == "the samples disagree"


def test_a_key_that_is_refused_ends_it(fake, tmp_path: Path, monkeypatch) -> None:
    from tests.fakes.engine import FakeEngine

    file = write(tmp_path / "p.jsonl", *prompts(3))
    with FakeEngine() as engine, pytest.raises(EngineRejected, match="refuses our key"):
        run(tmp_path, file, teacher(engine.url))


def test_prompts_that_cannot_be_read_are_named(fake, tmp_path: Path) -> None:
    file = write(tmp_path / "p.jsonl", {"prompt": "a"}, {"other": "b"})
    with pytest.raises(DataError, match=r"p\.jsonl:2: unknown form"):
        run(tmp_path, file, teacher("http://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("given", "sealed", "error", "words"),
    [
        (None, False, SettingsError, "there is no teacher"),
        (Teacher(url="http://api.example/v1"), True, SealedError, "sealed: train.teacher"),
        (Teacher(url="http://api.example/v1"), False, SettingsError, "what does api.example cost"),
        (
            Teacher(url="http://127.0.0.1:1/v1", price_in=1.0, price_out=1.0),
            False,
            SettingsError,
            "nothing says how much may be spent",
        ),
        (Teacher(url="api.example", budget=1.0), False, SettingsError, "names no host"),
        (
            Teacher(url="http://127.0.0.1:1", judge=Priced(url="https://j.example", price_in=0.0)),
            True,
            SealedError,
            "train.teacher.judge would be asked at j.example",
        ),
    ],
)
def test_a_teacher_that_is_not_asked(given, sealed, error, words) -> None:
    with pytest.raises(error, match=words):
        label.check(given, sealed=sealed)


def test_a_teacher_on_this_machine_needs_no_prices() -> None:
    label.check(Teacher(url="http://127.0.0.1:8080/v1"), sealed=True)
