from pathlib import Path

import pytest

from residency.decide import answers
from residency.decide.answers import Answers, CategoryAnswers
from residency.errors import InputError, SettingsError
from residency.types import Category, TrafficReport

MONTH = 365.25 / 12 * 86_400


def category(name: str, calls: int, tokens: int) -> Category:
    return Category(
        name=name,
        calls=calls,
        prompt_tokens=calls * 500,
        completion_tokens=calls * tokens,
        cost=calls * 0.01,
        p50=1.0,
        p95=2.0,
        errors=10,
        alike=0.5,
        examples=(),
    )


@pytest.fixture
def report() -> TrafficReport:
    """Half a month."""
    parts = (category("orders", 600, 5), category("letters", 200, 900))
    return TrafficReport(
        first=0.0,
        last=MONTH / 2,
        total=category("", 800, 200),
        categories=parts,
        models={"gpt-4o": 700, "gpt-5-mini": 100},
        personal={},
    )


def test_an_unknown_key_fails_with_line_and_nearest_match(tmp_path: Path) -> None:
    file = tmp_path / "answers.toml"
    file.write_text('may_leave = false\n\n[category."a"]\nprompt_token = 3\n')
    with pytest.raises(SettingsError, match=r"answers\.toml:4: .*prompt_token") as caught:
        answers.load(file)
    assert caught.value.hint == "did you mean prompt_tokens?"


def test_a_report_is_brought_to_a_month(report: TrafficReport) -> None:
    facts = answers.facts(Answers(), report)
    orders, letters = facts.loads
    assert (orders.calls, orders.prompt_tokens, orders.completion_tokens) == (1200, 500, 5)
    assert orders.cost == pytest.approx(12.0)
    assert orders.examples == 590
    assert (orders.task, letters.task) == ("classification", "reasoning")
    assert facts.api_model == "gpt-4o"


def test_answers_overrule_a_report(report: TrafficReport) -> None:
    said = Answers(
        api_model="gpt-5", category={"letters": CategoryAnswers(task="questions", examples=3)}
    )
    facts = answers.facts(said, report)
    assert (facts.loads[1].task, facts.loads[1].examples) == ("questions", 3)
    assert facts.loads[0].examples == 590
    assert facts.api_model == "gpt-5"


def test_a_category_that_the_report_does_not_have(report: TrafficReport) -> None:
    said = Answers(category={"leters": CategoryAnswers(examples=3)})
    with pytest.raises(InputError, match="leters") as caught:
        answers.facts(said, report)
    assert "letters" in caught.value.hint


def test_without_a_report_volume_must_be_stated() -> None:
    with pytest.raises(InputError, match="nothing says what the API is asked"):
        answers.facts(Answers())
    with pytest.raises(InputError, match="'a': prompt_tokens is missing"):
        answers.facts(Answers(category={"a": CategoryAnswers(calls=3)}))


def test_without_a_bill_the_api_must_be_named() -> None:
    asked = CategoryAnswers(calls=3, prompt_tokens=1, completion_tokens=1)
    with pytest.raises(InputError, match="model is not given"):
        answers.facts(Answers(category={"a": asked}))


def test_memory_is_stated_in_gigabytes() -> None:
    asked = CategoryAnswers(calls=3, prompt_tokens=1, completion_tokens=1, cost=3.0)
    assert answers.facts(Answers(memory=8, category={"a": asked})).memory == 8e9
