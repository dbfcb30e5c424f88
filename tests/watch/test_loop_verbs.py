"""`data build --from traffic` and `data review`, as their user calls them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from residency.cli import main
from residency.conversations import FROM_TRAFFIC, SPLITS, read_conversations
from residency.models.base import BaseModel
from residency.store import Store
from residency.traffic.store import TrafficStore
from tests.e2e.conftest import make_workspace
from tests.watch.exchanges import said, served

QUESTIONS = {
    1: "is there a lift to the second floor",
    2: "are guide dogs allowed in the ward",
    3: "how late is the kitchen open today",
    4: "which bus stops at the main gate",
}


def call(workspace: Path, *words: str, code: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(main, [*words, "--json", "--workspace", str(workspace)])
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture
def workspace(base: BaseModel, tmp_path: Path) -> Path:
    return make_workspace(tmp_path / "desk")


@pytest.fixture
def store(workspace: Path) -> Iterator[TrafficStore]:
    (workspace / ".residency").mkdir()
    store = TrafficStore(workspace / ".residency" / "traffic.db")
    store.add(
        served(n, text, subject="bob" if n == 2 else "", tags={"confidence": 0.9})
        for n, text in QUESTIONS.items()
    )
    yield store
    store.close()


def data_set(workspace: Path) -> dict[str, list[str]]:
    store = Store(workspace)
    last = [one for one in store.records() if one.stage == "data"][-1]
    folder = store.output(last, "dataset").path
    return {s: [r.question for r in read_conversations(folder / f"{s}.jsonl")] for s in SPLITS}


def rows(workspace: Path) -> dict[str, dict[str, Any]]:
    lines = (workspace / FROM_TRAFFIC).read_text().splitlines()
    return {row["exchange"]: row for row in map(json.loads, lines)}


def test_the_loop_by_its_verbs(workspace: Path, store: TrafficStore) -> None:
    call(workspace, "data", "build")
    first = data_set(workspace)
    near = served(9, f"{first['test'][0]}?", "wrong")
    store.add([near])
    store.rate([said(1, "up"), said(2, "down", "yes, always"), said(3, "down"), said(9, "up")])

    built = call(workspace, "data", "build", "--from", "traffic")
    assert built["traffic"]["near the test split"] == 1
    assert rows(workspace).keys() == {"req_000001", "req_000002"}
    assert rows(workspace)["req_000002"]["why"] == "corrected"
    grown = data_set(workspace)
    for side in SPLITS:
        assert grown[side][: len(first[side])] == first[side]
    new = [q for side in SPLITS for q in grown[side][len(first[side]) :]]
    assert sorted(new) == sorted([QUESTIONS[1], QUESTIONS[2]])

    queued = call(workspace, "data", "review", "--count", "5")
    path = Path(queued["file"])
    cases = [json.loads(line) for line in path.read_text().splitlines()]
    assert queued["reasons"]["rated down"] == 1
    assert cases[0]["exchange"] == "req_000003"
    cases[0]["correction"] = "until nine"
    path.write_text("".join(json.dumps(one) + "\n" for one in cases))
    refused = call(workspace, "data", "review", code=3)
    assert "not read in yet" in refused["error"]
    assert call(workspace, "data", "review", str(path))["read"] == 1

    again = call(workspace, "data", "build", "--from", "traffic")
    assert again["traffic"]["added"] == 1 and again["traffic"]["known"] == 2
    kept = rows(workspace)
    assert kept["req_000003"]["messages"][-1]["content"] == "until nine"
    assert kept["req_000003"]["why"] == "reviewed"
    same = call(workspace, "data", "build", "--from", "traffic")
    assert all(stage["cached"] for stage in same["stages"])

    erased = call(workspace, "traffic", "erase", "bob")
    assert (erased["erased"], erased["rows"]) == (1, 1)
    assert "req_000002" not in rows(workspace)
    assert all(one.exchange != "req_000002" for one in store.feedback())


def test_where_there_is_no_data_file_what_was_served_becomes_it(
    workspace: Path, store: TrafficStore
) -> None:
    (workspace / "desk.jsonl").unlink()
    refused = call(workspace, "data", "build", "--from", "traffic", code=3)
    assert "no answer to learn" in refused["error"]
    store.add(
        served(n, f"{'abcdefghijklmnopqrst'[n % 20] * 9} number {n * n * 7919}", f"to {n % 3}",
               routes=["api"])
        for n in range(100, 140)
    )  # fmt: skip
    settings = (workspace / "residency.toml").read_text()
    more = '[serve.models.api]\nurl = "http://127.0.0.1:9/v1"\n'
    (workspace / "residency.toml").write_text(settings + more)
    call(workspace, "data", "build", "--from", "traffic", "--unrated")
    assert not (workspace / FROM_TRAFFIC).exists()
    assert sum(map(len, data_set(workspace).values())) == 40
    assert "about traffic" in call(workspace, "data", "build", "--unrated", code=3)["error"]
