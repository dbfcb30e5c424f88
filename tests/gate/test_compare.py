"""Two behind OpenAI's API, each a server of its own, compared on the same cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from residency.config import GateSettings
from residency.errors import DataError, EngineRejected, EngineUnavailable, InputError
from residency.gate.compare import Trial, compare, figures, headline, unseen
from residency.gate.compare_page import render
from residency.gate.contender import Api
from tests.gate.results import conversation
from tests.gate.test_baseline import served
from tests.gate.test_report import EVIL, Elements

RIGHT = '{"department":"lab","urgency":"routine"}'
NEAR = '{"department":"lab","urgency":"emergency"}'
CASES = [conversation(f"Message {n}", RIGHT, line=n) for n in range(24)]
Answers = Callable[[int], tuple[int, str]]


def always_right(_: int) -> tuple[int, str]:
    return 200, RIGHT


@contextmanager
def two(one: Answers, other: Answers) -> Iterator[tuple[tuple[Api, Api], tuple[list, list]]]:
    with ExitStack() as stack:
        started = [stack.enter_context(served(answer)) for answer in (one, other)]
        first, second = (Api(endpoint=endpoint) for endpoint, _ in started)
        yield (first, second), (started[0][1], started[1][1])


def trial(folder: Path) -> Trial:
    place = folder / "work"
    return Trial(cases=CASES, kind="json", limit=32, folder=place, workspace=folder)


def test_the_second_is_worse_and_it_is_shown(tmp_path: Path) -> None:
    def worse(n: int) -> tuple[int, str]:
        return 200, (NEAR, EVIL, RIGHT, RIGHT)[n % 4]

    with two(always_right, worse) as (sides, asked):
        found = compare(*sides, trial(tmp_path), GateSettings())
        other_way = compare(*reversed(sides), trial(tmp_path), GateSettings())
    assert [len(one) for one in asked] == [48, 48]
    assert (found.worse, found.better, found.won, found.lost) == (True, False, 0, 12)
    assert (other_way.worse, other_way.better, other_way.won) == (False, True, 12)
    assert found.gains["exact"].value == -0.5 == -other_way.gains["exact"].value
    assert found.gains["fields"].value == pytest.approx(-0.25 - 0.125, abs=1e-6)
    assert found.p == pytest.approx(2 / 2**12)
    said = figures(found)
    assert said["relations"] == {"exact": 12, "similar": 6, "different": 6}
    assert [one["relation"] for one in said["each"][:3]] == ["similar", "different", "exact"]
    assert said["each"][0]["right"] == [True, False] and said["each"][0]["answers"][1] == NEAR
    assert f"{sides[1].name} is worse than {sides[0].name}" in headline(found)
    assert not (tmp_path / "work").exists()

    page = render(found, said)
    assert not {"script", "link", "img"} & set(Elements(page).tags)
    assert "&lt;script&gt;" in page and said["verdict"].split(":")[0] in page
    assert page.index("different</span>") < page.index(f"similar to {sides[0].name}")


def test_what_few_cases_cannot_tell_is_said(tmp_path: Path) -> None:
    with two(always_right, lambda n: (200, NEAR if n == 3 else RIGHT)) as (sides, _):
        found = compare(*sides, trial(tmp_path), GateSettings())
    assert not found.worse and not found.better
    assert "24 cases cannot tell which is better" in headline(found)
    assert "you need" in found.power


def test_a_failing_case_is_left_out_and_asked_again(tmp_path: Path) -> None:
    """One case is answered with 500, one not at all."""

    def failing(n: int) -> tuple[int, str]:
        return {2: (500, ""), 5: (0, "")}.get(n, (200, RIGHT))

    with two(always_right, failing) as (sides, asked):
        found = compare(*sides, trial(tmp_path), GateSettings())
        assert len(found.marked[sides[0].name].answers) == 22
        assert "no answer to 2 cases, the first desk.jsonl:2: " in found.tallies[1].fault
        assert "500" in render(found, figures(found))
        again = compare(*sides, trial(tmp_path), GateSettings())
    assert [len(one) for one in asked] == [24, 26]
    assert len(again.marked[sides[0].name].answers) == 24 and not again.tallies[1].fault
    assert not (tmp_path / "work").exists()


def test_one_that_is_down_loses_nothing_of_the_other(tmp_path: Path) -> None:
    up = False

    with two(always_right, lambda _: (200 if up else 500, RIGHT)) as (sides, asked):
        with pytest.raises(EngineUnavailable, match=r"nothing to compare: .* to 24 cases, .*500"):
            compare(*sides, trial(tmp_path), GateSettings())
        up = True
        found = compare(*sides, trial(tmp_path), GateSettings())
    assert [len(one) for one in asked] == [24, 3 + 24]
    assert found.different.value == 0.0


def test_a_refused_key_ends_it(tmp_path: Path) -> None:
    with (
        two(always_right, lambda _: (401, "")) as (sides, _),
        pytest.raises(EngineRejected, match="refuses our key"),
    ):
        compare(*sides, trial(tmp_path), GateSettings())


def test_a_scorer_of_ones_own_is_compared_too(tmp_path: Path) -> None:
    code = "def score(messages, answer, reference):\n    return float('routine' in answer)\n"
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    settings = GateSettings(scorer="mine.py:score")
    with two(always_right, lambda n: (200, RIGHT if n % 2 else NEAR)) as (sides, _):
        found = compare(*sides, trial(tmp_path), settings)
    assert found.gains["score"].value == -0.5


def test_a_thing_is_not_compared_with_itself(tmp_path: Path) -> None:
    with (
        two(always_right, always_right) as (sides, asked),
        pytest.raises(InputError, match="are the same"),
    ):
        compare(sides[0], sides[0], trial(tmp_path), GateSettings())
    assert not asked[0]


def test_what_was_trained_on_is_not_asked() -> None:
    learnt = [conversation("  Message  3", "whatever"), conversation("Another", "x")]
    left, count = unseen(CASES, learnt)
    assert count == 1 and [c.source for c in left] == [c.source for c in CASES if c != CASES[3]]
    with pytest.raises(DataError, match="trained on all of them"):
        unseen(CASES[3:4], learnt)
    with pytest.raises(DataError, match="the test split is empty"):
        unseen([], learnt)
