from __future__ import annotations

import pytest

from residency.train.answers import Example, check, forgotten
from residency.words import words

QUESTION = "At what time does the desk open on Monday morning?"
ANSWER = "The desk opens at eight on Monday morning."
KNOWN = frozenset(words("the desk opens at eight on Monday morning, is closed, lab and bill"))


def example(after: str, *, reference: str = ANSWER, question: str = QUESTION, ended: bool = True):
    return Example(
        source="a:1",
        question=question,
        reference=reference,
        before="",
        after=after,
        ended=ended,
    )


def names(**values: object) -> list[str]:
    return [found.name for found in check([example(**values)], KNOWN)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "after", [ANSWER, "At eight.", "The desk is closed on Monday.", "早上八点开门。"]
)
def test_sound_answers(after: str) -> None:
    reference = ANSWER if after.isascii() and len(after) > 12 else after
    assert names(after=after, reference=reference) == []


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("random tokens", "Ġzeug ipsum quarrel 丶 nabla tapestry frobnicate Monday"),
        ("repeated instruction", "At what time does the desk open on Monday morning"),
        ("short answers", "Eight"),
        ("refusals", "I'm sorry, but I cannot help with the desk on Monday morning."),
        ("loops", "the desk opens at eight " * 40),
    ],
)
def test_what_is_wrong_is_named(name: str, after: str) -> None:
    assert name in names(after=after)


def test_chinese_answers() -> None:
    question, reference = "请问周一早上门诊几点开门？", "周一早上八点开门，请带身份证。"
    assert names(after=reference, question=question, reference=reference) == []
    assert "repeated instruction" in names(after=question, question=question, reference=reference)
    assert "refusals" in names(
        after="抱歉，我无法回答这个问题。", question=question, reference=reference
    )
    assert "short answers" in names(after="八点", question=question, reference=reference)
    assert "random tokens" in names(after="龘靐齉爨灪麤鱻", question=question, reference=reference)


def test_an_answer_that_comes_to_no_end() -> None:
    assert names(after=ANSWER, ended=False) == ["unended answers"]


def test_what_the_right_answer_does_too_is_no_fault() -> None:
    sorry = "I'm sorry, but I cannot help with that."
    assert names(after=sorry, reference=sorry) == []
    assert names(after=QUESTION, reference=QUESTION) == []


def test_forgetting_is_more_than_chance() -> None:
    """Six lost and none won happens by chance once in 64 times, four in 16."""
    had = [True] * 10 + [False] * 20
    assert forgotten(had, [False] * 4 + had[4:]) == []
    (found,) = forgotten(had, [False] * 6 + had[6:])
    assert found.count == 6
    assert "had 10 right, the trained one has 4" in found.words
    won = [*had[:10], *[True] * 5, *had[15:]]
    assert forgotten(had, [False] * 6 + won[6:]) == []
    assert forgotten(had, had) == []
