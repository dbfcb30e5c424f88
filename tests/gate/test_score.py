from __future__ import annotations

import json

import pytest

from residency.gate.score import (
    Kind,
    fold,
    parse_object,
    relate,
    same,
    same_json,
    score,
    task_kind,
    token_f1,
)
from residency.types import calls_text
from tests.tooled import call

RIGHT = '{"department": "billing", "urgency": "routine", "intent": "copy"}'


@pytest.mark.parametrize(
    ("references", "kind"),
    [
        (['{"a": 1}', ' {"b": [2]} \n'], "json"),
        (['{"a": 1}', "no json"], "text"),
        (["[1, 2]", "[3]"], "text"),
        (["refill", "billing", "refill", "billing", " refill ", "billing"], "label"),
        (["refill", "billing", "records", "refill"], "text"),
        (["A long answer that is always the very same. " * 3] * 9, "text"),
        (["预约", "预约", "预约", "账单", "账单", "账单"], "label"),
        ([], "text"),
    ],
)
def test_task_kind(references: list[str], kind: str) -> None:
    assert task_kind(references) == kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[1]",
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": 1} and more',
        '```json\n{"a": 1}\n```',
        "{" * 100_000,
        '{"a": ' + "9" * 10_000 + "}",
    ],
)
def test_not_a_json_object(text: str) -> None:
    assert parse_object(text) is None


@pytest.mark.parametrize("kind", ["text", "label", "json"])
def test_calls_of_tools_are_compared_by_name_and_by_argument(kind: Kind) -> None:
    right, turned, other, elsewhere = (
        calls_text([one])
        for one in (
            call(day="周二", limit=2),
            call(limit=2.0, day="周二"),
            call(day="周二", limit=3),
            call("book", day="周二", limit=2),
        )
    )
    assert score(kind, turned, right).exact and same(kind, turned, right)
    half = score(kind, other, right)
    assert not half.exact
    assert half.by_field == {"tool": True, "free_slots.day": True, "free_slots.limit": False}
    assert relate(kind, other, right) == "similar"
    assert not any(score(kind, elsewhere, right).by_field.values())
    assert relate(kind, elsewhere, right) == "different"
    assert score(kind, "Which day?", right).by_field == dict.fromkeys(half.by_field, False)
    if kind == "text":
        assert half.similarity == pytest.approx(2 / 3)


def test_json_equality_knows_types_but_not_layout() -> None:
    assert same("json", '{"a":1,"b":[true]}', '{ "b": [true], "a": 1.0 }')
    assert not same_json(1, True)
    assert not same_json({"a": 0}, {"a": False})
    assert not same_json([1, 2], [1])
    assert not same_json({"a": None}, {})
    assert not same_json("1", 1)


def test_json_scores_count_fields_of_both_sides() -> None:
    exact = score("json", json.dumps(json.loads(RIGHT), indent=2), RIGHT)
    assert (exact.exact, exact.valid_json, exact.fields) == (True, True, 1.0)

    one_off = score("json", RIGHT.replace("routine", "emergency"), RIGHT)
    assert (one_off.exact, one_off.valid_json) == (False, True)
    assert one_off.fields == pytest.approx(2 / 3)
    assert one_off.by_field == {"department": True, "urgency": False, "intent": True}

    invented = score("json", RIGHT[:-1] + ', "note": "x"}', RIGHT)
    assert (invented.exact, invented.fields) == (False, 0.75)

    broken = score("json", RIGHT[:-1], RIGHT)
    assert (broken.exact, broken.valid_json, broken.fields) == (False, False, 0.0)
    assert set(broken.by_field.values()) == {False}


def test_labels_fold_width_and_white_space_but_not_case() -> None:
    assert score("label", " \uff32efill\u3000now\n", "Refill now").exact
    assert not score("label", "refill now", "Refill now").exact
    assert not score("label", "Refill now.", "Refill now").exact
    assert score("label", "Refill", "Refill").similarity is None


def test_text_folds_case_and_final_punctuation() -> None:
    assert score("text", "Take it WITH food!!", "take it with  food.").exact
    assert score("text", "明天开门。", "明天开门").exact
    assert not score("text", "Take it. With food", "Take it with food").exact
    assert not same("text", "?", "!")


def test_token_f1() -> None:
    assert token_f1("the cat sat", "the cat ran") == pytest.approx(2 / 3)
    assert token_f1("a a b", "a b b") == pytest.approx(2 / 3)
    assert token_f1("明天九点", "明天十点") == pytest.approx(3 / 4)
    assert token_f1("", "") == 1.0
    assert token_f1("", "word") == 0.0
    assert token_f1("?", "!") == 0.0


@pytest.mark.parametrize(
    ("kind", "answer", "f16", "relation"),
    [
        ("json", '{"a":1,"b":2}', '{"b":2,"a":1}', "exact"),
        ("json", '{"a":1,"b":3}', '{"a":1,"b":2}', "similar"),
        ("json", '{"a":1,"b":3,"c":4}', '{"a":1,"b":2}', "different"),
        ("json", "oops", '{"a":1}', "different"),
        ("json", " oops", "oops", "exact"),
        ("json", '{"a":1}', "oops", "different"),
        ("label", "refill", "refill", "exact"),
        ("label", "refill now", "refill", "different"),
        ("text", "Come at nine.", "come at nine", "exact"),
        ("text", "no idea", "come at nine", "different"),
    ],
)
def test_relation_to_f16(kind: str, answer: str, f16: str, relation: str) -> None:
    assert relate(kind, answer, f16) == relation


def test_fold_is_idempotent_on_odd_spaces() -> None:
    assert fold("\u00a0a\t\u2003b\n") == "a b" == fold(fold("\u00a0a\t\u2003b\n"))
