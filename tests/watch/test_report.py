"""The watch report: what happened, by the record, and what of it has moved."""

import json
import random
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from residency import config
from residency.cli import main
from residency.config import Settings
from residency.errors import InputError
from residency.traffic.store import TrafficStore
from residency.types import Exchange, to_dict
from residency.verbs.watching import start_of
from residency.watch import page, report, told
from residency.watch.history import History
from residency.watch.report import Report
from tests.watch.exchanges import said, served

DAY = 86_400.0
NOW = 1_800_000_000.0
START = NOW - 7 * DAY
HERE = {"routes": ["desk"]}
TOML = """
name = "desk"
[data]
file = "d.jsonl"
[serve.models.desk]
fallback = ["api"]
[serve.models.api]
url = "http://127.0.0.1:9/v1"
[watch]
api_price_in = 1.0
api_price_out = 2.0
"""
WORDS = ("bill", "visit", "refill", "result", "parking", "form", "doctor", "pharmacy")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "residency.toml").write_text(TOML)
    (tmp_path / ".residency").mkdir()
    return tmp_path


def calls(count: int, start: float, end: float, *, seed: int, shift: float = 1.0) -> list[Exchange]:
    """Calls spread over a time, each day as many; `shift` times as long answers."""
    chance = random.Random(seed)
    found = []
    for n in range(count):
        at = start + (end - start) * (n + 0.5) / count
        subject = chance.choice(WORDS)
        found.append(
            served(
                n,
                f"where is the {subject} that {chance.choice(WORDS)} {chance.randrange(5)} had",
                id=f"c{seed}_{n}",
                time=at,
                latency=chance.lognormvariate(-1.0, 0.6),
                ttft=0.05,
                prompt_tokens=chance.randrange(20, 60),
                completion_tokens=int(shift * chance.randrange(10, 40)),
                routes=["desk"] if n % 10 else ["desk", "api"],
                model="desk",
                **({"status": 503, "error": "engine_unavailable"} if n % 50 == 7 else {}),
            )
        )
    return found


def made(workspace: Path, exchanges: list[Exchange], *feedback) -> Report:
    ordered = sorted(exchanges, key=lambda one: one.time)

    def between(start: float, end: float) -> Iterator[Exchange]:
        return (one for one in ordered if start <= one.time < end)

    settings: Settings = config.load(workspace)
    return report.run(workspace, settings, between, feedback, [], start=START, end=NOW)


def test_figures_are_those_of_the_calls(workspace: Path) -> None:
    week = calls(1000, START, NOW, seed=1)
    total = made(workspace, week).figures["total"]
    assert (total["requests"], total["failed"]) == (1000, 20)
    assert total["errors"] == {"engine_unavailable": 20}
    fine = [one for one in week if one.status == 200]
    exact = np.sort([one.latency for one in fine])
    for share in (0.5, 0.95, 0.99):
        rank = exact[int(share * (len(exact) - 1))]
        assert total["latency"][f"p{100 * share:.0f}"] == pytest.approx(rank, rel=0.01)
    here = [one for one in fine if one.tags["routes"] == ["desk"]]
    assert total["share_local"] == pytest.approx(len(here) / len(fine))
    saved = sum(one.prompt_tokens + 2 * one.completion_tokens for one in here) / 1e6
    assert total["saved"] == pytest.approx(saved)


def test_steps_cover_the_time_and_add_up(workspace: Path) -> None:
    figures = made(workspace, calls(500, START, NOW, seed=1)).figures
    steps = figures["steps"]
    assert steps[0]["start"] == START
    assert NOW - figures["width"] <= steps[-1]["start"] < NOW
    assert sum(one["requests"] for one in steps) == 500
    assert len(steps) <= 60


@pytest.mark.parametrize("days", [0.01, 1, 30, 4000])
def test_any_time_has_few_steps(days: float) -> None:
    history = History(
        start=0.0, end=days * DAY, settings=config.WatchSettings(), remote=frozenset()
    )
    assert len(history.figures()["steps"]) <= 60


def test_a_month_like_the_last_has_not_moved(workspace: Path) -> None:
    before = calls(2000, START - 28 * DAY, START, seed=1)
    made_ = made(workspace, before + calls(600, START, NOW, seed=2))
    assert made_.drift.calls_before == 2000
    names = {one.name for one in made_.drift.signals}
    assert names >= {"category", "unknown", "script", "prompt length", "answer length"}
    assert [one.name for one in made_.drift.signals if one.drifted] == []
    report.write(workspace, made_)
    assert told.last(workspace / ".residency") == ()


def test_what_has_moved_is_named_and_told_to_the_alerts(workspace: Path) -> None:
    before = calls(2000, START - 28 * DAY, START, seed=1)
    made_ = made(workspace, before + calls(600, START, NOW, seed=2, shift=3.0))
    assert [one.name for one in made_.drift.signals if one.drifted] == ["answer length"]
    report.write(workspace, made_)
    (one,) = told.last(workspace / ".residency")
    assert one.where == "answer length" and one.value > one.bound
    assert "answer length" in page.headline(to_dict(made_))[-1]


def test_a_new_language_is_found(workspace: Path) -> None:
    before = calls(1500, START - 28 * DAY, START, seed=1)
    now = calls(500, START, NOW, seed=2)
    chinese = [
        served(n, f"请问第{n}号的账单在哪里", id=f"zh{n}", time=START + n * 3000, model="desk")
        for n in range(180)
    ]
    moved = {
        one.name for one in made(workspace, before + now + chinese).drift.signals if one.drifted
    }
    assert moved >= {"script", "category"}


def test_without_calls_before_nothing_is_compared(workspace: Path) -> None:
    made_ = made(workspace, calls(200, START, NOW, seed=1))
    assert made_.drift.signals == ()
    assert "fewer than" in made_.drift.missing[0]


def test_without_calls_there_is_no_report(workspace: Path) -> None:
    with pytest.raises(InputError, match="no calls"):
        made(workspace, calls(10, START - DAY, START, seed=1))


def test_feedback_is_counted(workspace: Path) -> None:
    week = calls(20, START, NOW, seed=1)
    ids = [one.id for one in week]
    feedback = [
        said(0, "up", exchange=ids[1]),
        said(0, "down", exchange=ids[2]),
        said(0, "down", "no", exchange=ids[3]),
        said(0, "down", "yes", exchange=ids[4], source="review", key=""),
        said(0, "up", exchange="another"),
    ]
    counts = made(workspace, week, *feedback).feedback
    # A correction that says the same as the answer calls it right.
    assert (counts["client"], counts["review"]) == (3, 1)
    assert (counts["up"], counts["down"], counts["corrected"]) == (1, 3, 2)
    assert (counts["right"], counts["wrong"]) == (2, 2)


def test_alerts_of_the_time_are_listed(workspace: Path) -> None:
    alerts = workspace / ".residency" / "alerts.jsonl"
    alert = {"kind": "began", "rule": "slow", "severity": "warn", "words": "95 of 100 <b>slow</b>"}
    times = ("2020-01-01T00:00:00Z", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW - DAY)))
    lines = [json.dumps({**alert, "time": one}) for one in times]
    alerts.write_text("\n".join([*lines, "half a li"]))
    made_ = made(workspace, calls(20, START, NOW, seed=1))
    assert [one["time"] for one in made_.alerts] == [times[1]]
    assert "95 of 100 &lt;b&gt;slow" in report.write(workspace, made_).read_text()


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.urls += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        """SVG's own, which have nothing inside."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_for_nothing(workspace: Path) -> None:
    before = calls(500, START - 28 * DAY, START, seed=1)
    text = report.write(
        workspace, made(workspace, before + calls(300, START, NOW, seed=2))
    ).read_text()
    tags = _Tags()
    tags.feed(text)
    assert tags.open == [] and tags.urls == []
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert "nan" not in text.casefold().replace("finance", "")


def test_the_verb_reads_the_store(workspace: Path) -> None:
    now = time.time()
    store = TrafficStore(workspace / ".residency" / "traffic.db")
    store.add(calls(100, now - 2 * DAY, now - 60, seed=1))
    store.rate([said(0, "up", exchange="c1_1")])
    store.close()
    words = ["watch", "report", "--json", "--workspace", str(workspace), "--since", "3d"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["figures"]["total"]["requests"] == 100
    assert found["feedback"]["up"] == 1
    assert Path(found["page"]) == workspace / "reports" / "watch.html"
    assert json.loads((workspace / "reports" / "watch.json").read_text())["start"] == found["start"]


def test_the_times_that_since_takes() -> None:
    assert start_of("7d", NOW) == START
    assert start_of("90m", NOW) == NOW - 5400
    assert start_of("2027-01-01", NOW) == 1_798_761_600.0
    for bad in ("", "7", "d", "0d", "-1d", "7x", "2031-01-01", "2027-13-01", "9" * 400 + "d"):
        with pytest.raises(InputError):
            start_of(bad, NOW)
