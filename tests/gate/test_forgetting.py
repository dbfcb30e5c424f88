from __future__ import annotations

from residency.gate.forgetting import compare, questions, right
from tests.gate.results import answer

RIGHT = [
    "12", "54.", "63", "It is 24", "You have twelve apples.", "25", "0.9 is larger", "120 minutes",
    "Paris", "Tokyo", "Mercury", "CO2", "366 days", "William Shakespeare", "the Pacific", "100°C",
    "H2O", "In the east.", "eight", "The heart", "cold", "children", "Yes.", "RIVER",
    "red, green, blue", "The train leaves at noon.", "dog", "Lighter", "是北京。", "Blanca.",
]  # fmt: skip


def test_right_answers_are_known_and_others_are_not() -> None:
    suite = questions()
    assert len(suite) == 30
    assert all(right([answer(text) for text in RIGHT], suite))
    assert not any(right([answer("I cannot help; see 1123 or 5.")] * 30, suite))


def test_what_was_lost_is_named() -> None:
    before = [answer(text) for text in RIGHT]
    after = [*before[:8], answer("Lyon"), *before[9:]]
    found = compare(before, after)
    assert found["base"]["value"] == 1.0
    assert found["specialist"]["value"] < 1.0
    assert found["lost"] == ["What is the capital of France?"]
    assert found["p"] == 1.0
