from __future__ import annotations

import random

import pytest

from residency.data import dedupe
from residency.data.dedupe import canonical, compared, drop_repeated, group_near
from residency.types import Conversation, Message
from tests.data.rows import row


def test_the_same_question_is_kept_once() -> None:
    rows = [row("Open  today?", line=1), row("open today？", line=2), row("Closed?", line=3)]
    found = drop_repeated(rows)
    assert found.rows == [rows[0], rows[2]]
    assert found.duplicates == [("f:2", "f:1")]
    assert found.contradictions == []


def test_another_answer_contradicts_the_first() -> None:
    found = drop_repeated([row("Q", "yes", 1), row("Q", "no", 2)])
    assert [r.answer for r in found.rows] == ["yes"]
    assert found.duplicates == []
    assert found.contradictions == [("f:2", "f:1")]


def test_json_answers_are_compared_as_values() -> None:
    assert canonical('{"b": 1, "a": "X"}') == canonical('{"a":"X","b":1}')
    assert canonical('{"a": "X"}') != canonical('{"a": "x"}')
    assert canonical(" Two  words") == canonical("two words")


def test_the_same_words_under_another_system_message_are_another_question() -> None:
    assert len(drop_repeated([row("Q", system="a"), row("Q", system="b")]).rows) == 2


def test_a_dialogue_is_compared_as_a_whole() -> None:
    turns = (
        ("user", "A table for two?"),
        ("assistant", "At eight?"),
        ("user", "Yes"),
        ("assistant", "Done"),
    )
    messages = tuple(Message(role=role, content=text) for role, text in turns)  # type: ignore[arg-type]
    assert (
        compared(Conversation(messages=messages, source="f:1")) == "a table for two? at eight? yes"
    )


TEXTS = [
    "i need to see a doctor about my left knee",
    "where do i park",
    "i need to see the doctor about my left knee!",
    "我想预约明天上午的牙科门诊",
    "我想预约明天下午的牙科门诊",
    "can you tell me where i could park the car",
]


@pytest.mark.parametrize("every_pair", [True, False])
def test_near_duplicates_are_grouped(monkeypatch: pytest.MonkeyPatch, every_pair: bool) -> None:
    if not every_pair:
        monkeypatch.setattr(dedupe, "_EVERY_PAIR", 0)
    assert group_near(TEXTS, 0.85) == [[0, 2], [1], [3, 4], [5]]
    assert group_near(TEXTS, 1.0) == [[n] for n in range(6)]


def test_who_is_near_a_neighbour_is_in_the_group() -> None:
    texts = ["abcdefghijklmnopqrst", "abcdefghijklmnopqrXX", "abcdefghijklmnopYYXX"]
    assert group_near(texts, 0.9) == [[0, 1, 2]]


def test_the_sieve_for_large_sets_loses_few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz "
    texts = []
    for _ in range(200):
        text = [chance.choice(letters) for _ in range(60)]
        texts.append("".join(text))
        for place in chance.sample(range(60), 4):
            text[place] = chance.choice(letters)
        texts.append("".join(text))
    exact = sum(len(group) > 1 for group in group_near(texts, 0.85))
    monkeypatch.setattr(dedupe, "_EVERY_PAIR", 0)
    likely = sum(len(group) > 1 for group in group_near(texts, 0.85))
    assert exact == 200
    assert likely >= 190
