from __future__ import annotations

from residency.data import describe
from tests.data.rows import row


def test_answers_that_repeat_are_counted() -> None:
    rows = [row(str(n), answer) for n, answer in enumerate("aabbbc")]
    assert describe.answers(rows) == {"distinct": 3, "commonest": {"b": 3, "a": 2, "c": 1}}


def test_free_text_is_not_listed() -> None:
    rows = [row(str(n), f"answer {n}") for n in range(6)]
    assert describe.answers(rows) == {"distinct": 6, "commonest": {}}


def test_lists_are_cut_but_counts_are_not() -> None:
    pairs = [(f"f:{n}", "f:0") for n in range(1, 51)]
    found = describe.dropped(pairs)
    assert found["count"] == 50
    assert found["rows"][0] == "f:1 (see f:0)"
    assert len(found["rows"]) == 20
    assert len(describe.listed([lost for lost, _ in pairs])["rows"]) == 20
