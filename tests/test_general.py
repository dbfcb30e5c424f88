from __future__ import annotations

from residency.general import questions, right

RIGHT = [
    "12", "54.", "63", "It is 24", "You have twelve apples.", "25", "0.9 is larger", "120 minutes",
    "Paris", "Tokyo", "Mercury", "CO2", "366 days", "William Shakespeare", "the Pacific", "100°C",
    "H2O", "In the east.", "eight", "The heart", "cold", "children", "Yes.", "RIVER",
    "red, green, blue", "The train leaves at noon.", "dog", "Lighter", "是北京。", "Blanca.",
]  # fmt: skip


def test_right_answers_are_known_and_others_are_not() -> None:
    suite = questions()
    assert len(suite) == 30
    assert all(right(RIGHT, suite))
    assert not any(right(["I cannot help; see 1123 or 5."] * 30, suite))
