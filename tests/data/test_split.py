from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.config import DataSettings
from residency.data.split import labels, split
from residency.errors import DataError
from residency.types import Conversation
from tests.data.rows import row

SETTINGS = DataSettings(file="f")


def _singles(rows: list[Conversation]) -> list[list[int]]:
    return [[n] for n in range(len(rows))]


def _classes(sizes: dict[str, int]) -> list[Conversation]:
    answers = [name for name, size in sizes.items() for _ in range(size)]
    return [row(f"question {n}", answer, n) for n, answer in enumerate(answers)]


def test_every_class_is_spread_in_proportion() -> None:
    rows = _classes({"a": 100, "b": 50, "c": 20})
    sides = split(rows, _singles(rows), SETTINGS)
    counts = {side: Counter(r.answer for r in found) for side, found in sides.items()}
    assert counts["train"] == {"a": 70, "b": 35, "c": 14}
    assert counts["validation"] == {"a": 10, "b": 5, "c": 2}
    assert counts["test"] == {"a": 20, "b": 10, "c": 4}


def test_a_rare_class_goes_to_training_first() -> None:
    rows = _classes({"common": 60, "twice": 2, "once": 1})
    sides = split(rows, _singles(rows), SETTINGS)
    trained = {r.answer for r in sides["train"]}
    assert {"twice", "once"} <= trained
    assert all(r.answer == "common" for r in sides["test"])


def test_the_fields_of_json_answers_are_spread_where_the_whole_is_rare() -> None:
    rows = [
        row(f"question {n}", json.dumps({"urgent": n % 4 == 0, "id": n}), n) for n in range(200)
    ]
    sides = split(rows, _singles(rows), SETTINGS)
    assert len(sides["test"]) == 40
    assert sum(json.loads(r.answer)["urgent"] for r in sides["test"]) == 10


def test_labels() -> None:
    assert labels("plain Text") == ["plain text"]
    assert labels('{"b": 2, "a": "x", "c": [1]}')[1:] == ["b\x002", "a\0x"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=12, max_size=60), st.integers(0, 99))
def test_a_group_is_never_split_and_no_row_is_lost(sizes: list[int], seed: int) -> None:
    rows = _classes({str(n): size for n, size in enumerate(sizes)})
    groups, start = [], 0
    for size in sizes:
        groups.append(list(range(start, start + size)))
        start += size
    sides = split(rows, groups, DataSettings(file="f", seed=seed))
    placed = {r.source: side for side, found in sides.items() for r in found}
    assert len(placed) == len(rows) == sum(map(len, sides.values()))
    for group in groups:
        assert len({placed[rows[n].source] for n in group}) == 1


def test_the_seed_decides_and_nothing_else() -> None:
    rows = _classes({"a": 40, "b": 40})
    once = split(rows, _singles(rows), SETTINGS)
    assert split(rows, _singles(rows), SETTINGS) == once
    turned = split(rows[::-1], _singles(rows), SETTINGS)
    assert {r.source for r in turned["test"]} == {r.source for r in once["test"]}
    assert split(rows, _singles(rows), DataSettings(file="f", seed=18)) != once


@pytest.mark.parametrize("count", [1, 9])
def test_too_few_rows(count: int) -> None:
    rows = _classes({"a": count})
    with pytest.raises(DataError, match="too few") as caught:
        split(rows, _singles(rows), SETTINGS)
    assert "200" in caught.value.hint


def test_groups_that_leave_a_side_empty() -> None:
    rows = _classes({"a": 1000})
    groups = [list(range(500)), list(range(500, 990)), *([n] for n in range(990, 1000))]
    with pytest.raises(DataError, match=r"no rows are left for validation: .* nearly the same"):
        split(rows, groups, SETTINGS)


def test_a_group_larger_than_a_side_is_for_training() -> None:
    rows = _classes({"a": 100})
    groups = [list(range(60)), *([n] for n in range(60, 100))]
    sides = split(rows, groups, SETTINGS)
    assert {side: len(found) for side, found in sides.items()} == {
        "train": 70,
        "validation": 10,
        "test": 20,
    }
    assert rows[0] in sides["train"]


def test_many_small_classes_still_give_a_test_of_what_was_taught() -> None:
    rows = _classes({f"class {n}": 3 for n in range(50)})
    sides = split(rows, _singles(rows), SETTINGS)
    assert len(sides["test"]) == 30
    trained = {r.answer for r in sides["train"]}
    assert all(r.answer in trained for r in (*sides["test"], *sides["validation"]))
