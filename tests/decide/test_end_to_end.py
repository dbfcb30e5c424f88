"""From a request log to the memo, and on to what came of it, through the verbs."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from residency.cli import main

DAY = 86_400.0
STATUS = ("where is my parcel", "has order {n} been sent", "when does {n} arrive", "track {n}")
ESSAYS = ("write a post on rain in spring", "a long text on old trains", "tell of the sea at dusk")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "residency.toml").write_text('name = "desk"\n[data]\nfile = "x.jsonl"\n')
    (tmp_path / "answers.toml").write_text("team_hours = 30\n")
    return tmp_path


def line(number: int, at: float, kind: str, text: str, answer: str, cost: float) -> str:
    request = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}]}
    message = {"role": "assistant", "content": answer}
    response = {
        "id": f"chatcmpl-{at:.0f}-{number}",
        "object": "chat.completion",
        "model": "gpt-4o",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 300, "completion_tokens": 3 if kind == "status" else 900},
    }
    call = {"timestamp": at, "request": request, "response": response, "status": 200}
    rest = {"latency_ms": 900, "cost": cost, "metadata": {"workload_id": kind}}
    return json.dumps({"id": f"{at:.0f}-{number}", **call, **rest})


def log(path: Path, start: float, cost: float) -> Path:
    """30 days of a desk: 240 short questions that cost `cost` each, 60 long texts."""
    lines = []
    for number in range(300):
        at = start + number * DAY / 10
        if number % 5:
            text = STATUS[number % 4].format(n=number)
            answer = ("sent", "on its way", "here tomorrow")[number % 3]
            lines.append(line(number, at, "status", text, answer, cost))
        else:
            text = f"{ESSAYS[number % 3]}, part {number}"
            answer = " ".join(f"word{(number * n) % 997}" for n in range(60))
            lines.append(line(number, at, "essay", text, answer, 0.5))
    path.write_text("\n".join([*lines[:7], "{broken", *lines[7:]]) + "\n")
    return path


def verb(workspace: Path, *words: object, code: int = 0) -> dict[str, Any]:
    command = [*map(str, words), "--json", "--workspace", str(workspace)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == code, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_from_a_log_to_a_memo_and_what_came_of_it(workspace: Path) -> None:
    said = verb(workspace, "decide", "--compare", code=3)
    assert said["hint"] == "make one with: residency traffic report"

    before = log(workspace / "before.jsonl", time.time() - 31 * DAY, cost=40.0)
    taken = verb(workspace, "traffic", "import", before)
    assert (taken["added"], taken["rejected"]) == (300, 1)
    report = verb(workspace, "traffic", "report")
    assert {one["name"]: one["calls"] for one in report["report"]["categories"]} == {
        "status": 240,
        "essay": 60,
    }
    decision = verb(workspace, "decide", "--answers", workspace / "answers.toml")
    assert (decision["verdict"], decision["outlook"]["moved"][0]["name"]) == ("hybrid", "status")
    memo = Path(decision["page"]).read_text()
    assert "Move 1 of 2 categories" in memo
    assert memo.index("When it has paid for itself") < memo.index("Each category")

    said = verb(workspace, "decide", "--compare", code=3)  # all the calls are older
    assert "residency traffic report --since" in said["hint"]
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    after = log(workspace / "after.jsonl", time.time() + 2 * DAY, cost=0.0)
    verb(workspace, "traffic", "import", after)
    verb(workspace, "traffic", "report", "--since", tomorrow)
    found = verb(workspace, "decide", "--compare")
    outcomes = {(one["category"], one["what"]): one["outcome"] for one in found["figures"]}
    assert outcomes == {
        ("", "calls"): "inside",
        ("", "bill"): "outside",
        ("status", "calls"): "inside",
        ("status", "bill"): "outside",
    }
    assert 29 < found["days"] < 31


def test_nobody_to_run_it_is_a_no_and_both_decisions_are_kept(workspace: Path) -> None:
    verb(workspace, "traffic", "import", log(workspace / "a.jsonl", time.time() - 31 * DAY, 40.0))
    verb(workspace, "traffic", "report")
    verb(workspace, "decide", "--answers", workspace / "answers.toml")
    (workspace / "answers.toml").write_text("team_hours = 0\n")
    said = verb(workspace, "decide", "--answers", workspace / "answers.toml", code=2)
    assert (said["verdict"], said["results"]) == ("api", ["nobody to run it"])
    kept = sorted((workspace / "reports" / "decisions").iterdir())
    verdicts = [json.loads(path.read_text())["decision"]["verdict"] for path in kept]
    assert verdicts == ["hybrid", "api"]
    assert Path(said["file"]).read_bytes() == kept[-1].read_bytes()
    (workspace / "answers.toml").write_text("team_hour = 0\n")
    said = verb(workspace, "decide", "--answers", workspace / "answers.toml", code=3)
    assert said["hint"] == "did you mean team_hours?"
