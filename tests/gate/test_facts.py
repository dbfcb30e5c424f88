from __future__ import annotations

import pytest

from residency.gate.facts import exclude, facts


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("It costs 1,200.50 dollars", {1200.5}),
        ("It costs 1200.5 dollars.", {1200.5}),
        ("３００元", {300.0}),
        ("at 2:30 pm", {14.5}),
        ("at 14:30", {14.5}),
        ("下午两点半", {14.5}),
        ("between 9 am and 12 p.m.", {9.0, 12.0}),
        ("twelve hours, two tablets, twice", {12.0, 2.0}),
        ("3.2 million", {3_200_000.0}),
        ("320万元", {3_200_000.0}),
        ("二十三天", {23.0}),
        ("每年三月和九月", {3.0, 9.0}),
        ("百分之1.5", {1.5}),
        ("一般一定要一起去", set()),
        ("vitamin B12", set()),
        ("no one came", set()),
    ],
)
def test_numbers(text: str, numbers: set[float]) -> None:
    assert facts(text).numbers == numbers


@pytest.mark.parametrize(
    ("one", "other", "excluded"),
    [
        ("on Monday", "on Tuesdays", True),
        ("周一", "星期一", False),
        ("周一开会", "星期二开会", True),
        ("from Monday to Friday", "from Monday to Friday", False),
        ("from Monday to Friday", "on Monday", False),
        ("prices rose", "prices fell", True),
        ("prices rose", "prices increased", False),
        ("the east gate", "the least gate", False),
        ("合同有效", "合同无效", True),
        ("you may go", "in May", False),
    ],
)
def test_opposites(one: str, other: str, excluded: bool) -> None:
    assert exclude(facts(one), facts(other)) is excluded
    assert exclude(facts(other), facts(one)) is excluded


@pytest.mark.parametrize(
    ("text", "negations"),
    [
        ("It is not included", 1),
        ("It isn’t included, never", 2),
        ("no later than noon", 0),
        ("knowledge of notes", 0),
        ("不包含早餐", 1),
        ("没有不良反应", 2),
        ("不过包含早餐", 0),
        ("未来的类别", 0),
    ],
)
def test_negations(text: str, negations: int) -> None:
    assert facts(text).negations == negations


def test_names_are_not_the_first_words() -> None:
    assert facts("Please ask for Maria. She and Dr. Patel know.").names == {"maria", "patel"}
    assert facts("请找王医生，不是李律师").names == {"王", "李"}
