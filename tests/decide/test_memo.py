"""The verb from answers to memo: exit codes, files, and what the page says."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from residency.cli import main
from residency.decide import answers, memo
from residency.decide.answers import Answers, CategoryAnswers
from residency.decide.decision import Decision, decide
from residency.decide.facts import Facts
from residency.decide.prices import Prices
from residency.traffic.report import FOLDER, JSON_NAME
from residency.types import Category, TrafficReport, to_json
from residency.verbs import decide as verb

CASES = Path(__file__).parent / "cases"
Case = Callable[[str], tuple[Facts, Decision]]


def run(workspace: Path, *more: str) -> Result:
    return CliRunner().invoke(main, ["decide", "--workspace", str(workspace), *more])


def test_a_decision_is_kept_with_what_it_rests_on(tmp_path: Path) -> None:
    done = run(tmp_path, "--answers", str(CASES / "support-desk.toml"), "--json")
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    assert said["page"] == str(tmp_path / "reports" / "decision.html")
    kept = json.loads((tmp_path / "reports" / "decision.json").read_text())
    assert kept["decision"]["verdict"] == said["verdict"] == "hybrid"
    assert kept["decision"]["seed"] == 17
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", kept["decision"]["as_of"])
    assert kept["facts"]["api_model"] == "gpt-4o"
    assert len(kept["facts"]["loads"]) == 7


def test_a_no_has_its_own_exit_code(tmp_path: Path) -> None:
    done = run(tmp_path, "--answers", str(CASES / "content.toml"), "--memo", str(tmp_path / "m"))
    assert done.exit_code == 2
    assert done.stdout.startswith("Stay on the API: not enough volume.")
    assert "<title>Decision: Stay on the API" in (tmp_path / "m").read_text()


def test_without_answers_or_terminal(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.exit_code == 3
    assert "--answers" in done.stderr
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("*.toml")))
def test_the_page_needs_nothing_else_and_names_every_rule(name: str, case: Case) -> None:
    facts, decision = case(name)
    page = memo.render(decision, facts, "2026-01-31 12:00:00+00:00")
    assert not re.search(r"<script|<link|src=|https?://", page)
    fired = [*decision.fired, *(rule for one in decision.categories for rule in one.fired)]
    assert all(f"<small>{rule.id}" in page for rule in fired)
    assert all(f"{flip.fact}: " in page for flip in decision.flips)
    assert ("When it has paid for itself" in page) == (decision.verdict in ("slm", "hybrid"))


def test_a_hybrid_mean_latency_counts_what_moved_at_its_slow_end(case: Case) -> None:
    _, decision = case("support-desk")
    slow = next(one.after for one in decision.categories if one.after)[1]
    assert memo.latency(decision.categories, after=False) == pytest.approx(0.8 * 2.4 + 0.2 * 4.8)
    assert memo.latency(decision.categories, after=True) == pytest.approx(0.8 * slow + 0.2 * 4.8)


def test_a_traffic_report_is_what_is_decided_on(tmp_path: Path) -> None:
    def category(name: str, calls: int, tokens: int, alike: float) -> Category:
        return Category(
            name=name,
            calls=calls,
            prompt_tokens=calls * 500,
            completion_tokens=calls * tokens,
            cost=calls * 0.1,
            p50=1.0,
            p95=2.0,
            errors=0,
            alike=alike,
            examples=(),
        )

    parts = (category("refunds", 70_000, 12, 0.8), category("essays", 30_000, 700, 0.1))
    total = category("", 100_000, 200, 0.5)
    report = TrafficReport(
        first=0.0, last=2.6e6, total=total, categories=parts, models={"gpt-5": 1}, personal={}
    )
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / JSON_NAME).write_text(to_json({"report": report}))
    said = tmp_path / "answers.toml"
    said.write_text("team_hours = 30\n")
    done = run(tmp_path, "--answers", str(said), "--json")
    assert done.exit_code == 0, done.stderr
    decision = json.loads(done.stdout)
    verdicts = {one["name"]: one["verdict"] for one in decision["categories"]}
    assert verdicts == {"refunds": "slm", "essays": "api"}
    assert decision["verdict"] == "hybrid"


def test_a_terminal_is_asked(tmp_path: Path) -> None:
    """All defaults: 10,000 calls a month of a cheap API, which nobody should move."""
    ours, theirs = os.openpty()
    os.write(ours, b"\n" * 20)
    command = [sys.executable, "-m", "residency", "decide", "--workspace", str(tmp_path)]
    done = subprocess.run(
        command, stdin=theirs, capture_output=True, text=True, timeout=60, check=False
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 2, done.stderr
    assert "May the data leave your machines? (compliance comes first)" in done.stderr
    assert done.stdout.startswith("Stay on the API: not enough volume.")


def test_work_at_home_that_costs_nothing_now(table: Prices) -> None:
    asked = CategoryAnswers(
        calls=3, prompt_tokens=1, completion_tokens=1, cost=0, examples=100, alike=0.5
    )
    facts = answers.facts(Answers(may_leave=False, category={"free": asked}))
    decision = decide(facts, table)
    assert "it is not done for the money" in " ".join(memo.summary(decision))
    assert "free" in memo.render(decision, facts, "")


@pytest.mark.parametrize("text", ["many", "-1", "inf", "nan"])
def test_what_is_no_number_is_asked_again(text: str) -> None:
    with pytest.raises(click.BadParameter):
        verb._number(text)
