"""Whether the work should move to a small model: the decision and its memo."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from residency.cli import Result
from residency.decide import answers as stated
from residency.decide import memo as page
from residency.decide import predictions
from residency.decide import prices as table
from residency.decide.answers import Answers, CategoryAnswers
from residency.decide.comparison import FEWEST_DAYS, Comparison
from residency.decide.comparison import compare as compared
from residency.decide.decision import Decision
from residency.decide.decision import decide as decided
from residency.decide.draws import Range
from residency.decide.facts import Facts
from residency.decide.predictions import Kept
from residency.decide.rules import amount
from residency.errors import InputError
from residency.store import write_atomic
from residency.traffic import report as traffic
from residency.types import TrafficReport, to_dict

_SAYS_NO = 2
_OUTCOMES = {
    "inside": "as predicted",
    "moved": "as predicted for after the move",
    "outside": "outside the prediction",
    "unknown": "not known: the report has none of it",
}


def decide(
    workspace: Path, answers: Path | None, memo: Path | None, prices: Path | None, compare: bool
) -> Result:
    """Decide, write the memo and keep the prediction; or `compare` the last with what happened.

    The exit code is 2 where nothing moves.
    """
    if compare:
        if answers or memo or prices:
            raise InputError(
                "--compare takes no other option", hint="it looks, and decides nothing"
            )
        return _compared(workspace)
    report = _report(workspace)
    said = stated.load(answers) if answers else _asked(report)
    facts = stated.facts(said, report)
    decision = decided(facts, table.load(prices))
    reports = workspace / traffic.FOLDER
    kept = Kept(created=predictions.stamp(datetime.now(UTC)), facts=facts, decision=decision)
    file = predictions.keep(reports, kept)
    place = memo or reports / "decision.html"
    write_atomic(place, page.render(decision, facts, kept.created))
    return Result(
        data={**to_dict(decision), "page": str(place), "file": str(file)},
        text="\n".join(_told(decision, facts, place)),
        exit_code=0 if decision.verdict in ("slm", "hybrid") else _SAYS_NO,
    )


def _report(workspace: Path) -> TrafficReport | None:
    there = (workspace / traffic.FOLDER / traffic.JSON_NAME).exists()
    return traffic.load(workspace) if there else None


def _told(decision: Decision, facts: Facts, place: Path) -> list[str]:
    lines = [page.headline(decision), *page.summary(decision)]
    for one in decision.categories:
        lines.append(f"  {one.verdict:8} {one.name}: {one.fired[0].reason}")
    if decision.flips:
        flip = decision.flips[0]
        lines.append(f"it would be {flip.verdict} with {flip.fact}: {flip.then} (now {flip.now})")
    return [*lines, page.compliance(decision, facts), f"memo: {place}"]


def _compared(workspace: Path) -> Result:
    report = traffic.load(workspace)
    kept = predictions.last_before(workspace / traffic.FOLDER, report.first)
    found = compared(kept, report)
    return Result(data=to_dict(found), text="\n".join(_beside(found)))


def _beside(found: Comparison) -> Iterator[str]:
    yield f"decided {found.created[:10]}; {found.days:.0f} days of calls since"
    if found.early:
        yield f"that is too short to judge by: wait for {FEWEST_DAYS} days"
    yield f"{'a month':40}{'predicted':>26}{'after the move':>26}{'happened':>26}"
    for one in found.figures:
        what = "calls" if one.what == "calls" else f"bill, {found.currency}"
        cells = (one.predicted, one.left, one.happened)
        row = "".join(f"{'' if cell is None else _ends(cell):>26}" for cell in cells)
        yield f"{one.category[:25] or 'all'}: {what}".ljust(40) + f"{row}  {_OUTCOMES[one.outcome]}"


def _ends(value: Range) -> str:
    return f"{amount(value.low)} to {amount(value.high)}"


def _asked(report: TrafficReport | None) -> Answers:
    if not sys.stdin.isatty():
        raise InputError(
            "there are no answers, and no terminal to ask on",
            hint="give --answers answers.toml; docs/guides/decide.md shows one",
        )
    try:
        return Answers(**_constraints(), **({} if report else _work()))
    except click.Abort:
        raise KeyboardInterrupt from None


def _constraints() -> dict[str, Any]:
    yes, number = click.BOOL, _number
    return {
        "may_leave": _ask("May the data leave your machines?", "compliance comes first", True, yes),
        "offline": _ask("Must it work offline or at the edge?", "an API needs a line", False, yes),
        "latency": _ask("Seconds wanted at p95?", "an API may be too slow; empty: any", "", number),
        "quality": _ask("Share of right answers (0 to 1)?", "the bar; empty: none", "", _share),
        "team_hours": _ask(
            "Hours a month to run it?",
            "a model needs somebody; empty: as many as it takes",
            "",
            number,
        ),
        "gpu": _ask("Is there a GPU?", "it chooses machine and engine", False, yes),
    }


def _work() -> dict[str, Any]:
    click.echo(
        "No traffic report is here: state one kind of work (a file can state more).", err=True
    )
    name = _ask("What is asked?", "a name for it", "work", str)
    task = click.Choice(["classification", "questions", "reasoning"])
    category = CategoryAnswers(
        task=_ask("Kind of work?", "it sets size and examples", "questions", task),
        calls=_ask("Calls a month?", "volume decides what pays", "10000", _number),
        prompt_tokens=_ask("Tokens of a prompt?", "for money and time", "800", _number),
        completion_tokens=_ask("Tokens of an answer?", "for money and time", "150", _number),
        cost=_ask("The API's bill a month?", "empty: from the price table", "", _number),
        examples=_ask("Examples at hand?", "a model learns from them", 0, click.IntRange(min=0)),
    )
    model = "" if category.cost is not None else _ask("Which API?", "its prices", "gpt-5-mini", str)
    return {"api_model": model, "category": {name: category}}


def _ask(question: str, why: str, default: Any, kind: Any) -> Any:
    words = f"{question} ({why})"
    if kind in (_number, _share):
        return click.prompt(words, default=default, value_proc=kind, err=True)
    return click.prompt(words, default=default, type=kind, err=True)


def _number(text: str) -> float | None:
    try:
        value = float(text) if text.strip() else None
    except ValueError:
        raise click.BadParameter("a number, or nothing") from None
    if value is not None and not 0 <= value < float("inf"):
        raise click.BadParameter("a number from 0 on")
    return value


def _share(text: str) -> float | None:
    value = _number(text)
    if value is not None and value > 1:
        raise click.BadParameter("a share from 0 to 1")
    return value
