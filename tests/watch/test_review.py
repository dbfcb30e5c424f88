"""The queue of cases that are most worth a person's label."""

import json
from pathlib import Path

import pytest

from residency.errors import InputError
from residency.types import Exchange
from residency.watch import review
from residency.watch.review import Case
from residency.watch.trust import judge, opinions
from tests.watch.exchanges import said, served

TEXTS = ("is there a lift", "are dogs allowed inside", "who is my doctor now", "how late is it")


def queue(
    exchanges: list[Exchange], *feedback, disputed=(), unknown=(), most: int = 50
) -> list[Case]:
    said_ = opinions(feedback)
    judged = [one for e in exchanges if (one := judge(e, said_, {"api"}))]
    return review.queue(judged, disputed, unknown, 0.85, most)


def ids(cases: list[Case]) -> list[str]:
    return [case.judged.exchange[-1] for case in cases]


def test_the_best_reasons_come_first() -> None:
    exchanges = [
        served(1, TEXTS[0]),
        served(2, TEXTS[1]),
        served(3, TEXTS[2], tags={"guards": ["repetition"]}),
        served(4, TEXTS[3]),
    ]
    found = queue(exchanges, said(2, "down"), disputed={"req_000004"}, unknown={"req_000001"})
    assert ids(found) == ["4", "2", "3", "1"]
    assert [case.reasons[0] for case in found] == [
        "contradictory", "rated down", "spoiled", "unknown",
    ]  # fmt: skip
    assert ids(queue(exchanges, said(2, "down"), unknown={"req_000001"}, most=1)) == ["2"]


def test_what_is_settled_is_not_asked_again() -> None:
    exchanges = [served(n, text) for n, text in enumerate(TEXTS)]
    labels = [said(0, "up"), said(1, "down", "no"), said(2, "up", source="review")]
    assert queue(exchanges, *labels) == []


def test_the_tenth_of_which_the_model_was_least_sure() -> None:
    exchanges = [
        served(n, f"{'abcdefghij'[n] * 12} {n}", tags={"confidence": 0.5 + n / 20})
        for n in range(10)
    ]
    found = queue(exchanges)
    assert ids(found) == ["0"]
    assert found[0].reasons == ("unsure",)


def test_nearly_the_same_is_asked_once() -> None:
    exchanges = [served(n, f"is there a lift{'!' * n}") for n in range(4)]
    (case,) = queue(exchanges, *(said(n, "down") for n in range(4)))
    assert case.times == 4


def written(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def fill(path: Path, **filled: object) -> None:
    rows = written(path)
    rows[0] |= filled
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_file_is_filled_in_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "review.jsonl"
    exchanges = [served(1, TEXTS[0]), served(2, TEXTS[1])]
    cases = queue(exchanges, said(1, "down", comment="wrong"), said(2, "down"))
    review.write(path, cases, {})
    rows = written(path)
    assert [row["exchange"] for row in rows] == ["req_000002", "req_000001"]
    assert rows[1]["comment"] == "wrong"
    assert rows[1]["asked"] == [{"role": "user", "content": TEXTS[0]}]
    assert review.read(path) == []
    fill(path, correction=" 不 ")
    (label,) = review.read(path)
    assert (label.exchange, label.source, label.rating, label.correction) == (
        "req_000002", "review", "down", "不",
    )  # fmt: skip
    with pytest.raises(InputError, match="not read in yet: 1"):
        review.write(path, cases, {})
    assert written(path)[0]["correction"] == " 不 "
    review.write(path, cases[1:], opinions([label]))
    assert len(written(path)) == 1
    fill(path, right=True)
    assert [one.rating for one in review.read(path)] == ["up"]


@pytest.mark.parametrize(
    ("filled", "words"),
    [
        ({"right": True, "correction": "no"}, "another one"),
        ({"right": "yes"}, "right"),
        ({"corection": "no"}, "corection"),
        ({"exchange": ""}, "exchange"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, filled: dict, words: str) -> None:
    path = tmp_path / "review.jsonl"
    review.write(path, queue([served(1, TEXTS[0])], said(1, "down")), {})
    fill(path, **filled)
    with pytest.raises(InputError) as caught:
        review.read(path)
    assert caught.value.message.startswith(f"{path}:1: ") and words in caught.value.message


def test_a_case_is_forgotten_with_its_exchange(tmp_path: Path) -> None:
    path = tmp_path / "review.jsonl"
    exchanges = [served(1, TEXTS[0]), served(2, TEXTS[1])]
    review.write(path, queue(exchanges, said(1, "down"), said(2, "down")), {})
    assert review.forget(path, {"req_000001"}) == 1
    assert [row["exchange"] for row in written(path)] == ["req_000002"]
    assert review.forget(tmp_path / "none.jsonl", {"req_000001"}) == 0
