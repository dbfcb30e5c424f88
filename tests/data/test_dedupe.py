from __future__ import annotations

from residency.data.dedupe import compared, drop_repeated
from residency.near_duplicates import canonical
from residency.types import Conversation, Message
from tests.data.rows import row
from tests.tooled import call, conversation


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


def test_the_same_words_with_other_tools_are_another_question() -> None:
    rows = [conversation("Q", tools=(name,)) for name in ("free_slots", "book")]
    assert drop_repeated([*rows, rows[0]]).rows == rows


def test_calls_are_answers_like_others() -> None:
    first, same, other = (
        conversation("Q", call(**given))
        for given in ({"day": "Monday", "limit": 1}, {"limit": 1, "day": "Monday"}, {"day": "x"})
    )
    found = drop_repeated([first, same, other])
    assert (len(found.duplicates), len(found.contradictions)) == (1, 1)


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
