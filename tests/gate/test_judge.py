from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from residency.config import ServedModel
from residency.errors import EngineRejected, StorageError
from residency.gate.judge import Case, agreement, combine, judge
from residency.types import Message
from tests.fakes.engine import FakeEngine

VARIABLE = "RESIDENCY_TEST_KEY"
FLIPPING = "verdict: 1||"
"""As the first answer it makes the fake's `second-thought` say "verdict: 1" in both orders."""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    engine = FakeEngine()
    monkeypatch.setenv(VARIABLE, engine.key)
    engine.start()
    yield engine
    engine.stop()


def served(api: FakeEngine, behaviour: str) -> ServedModel:
    return ServedModel(url=api.url, model=behaviour, key_variable=VARIABLE)


def cases(count: int, first: str = "one", second: str = "two") -> list[Case]:
    prompt = (Message(role="user", content="Which?"),)
    return [
        Case(source=f"test.jsonl:{n}", prompt=prompt, first=first, second=second)
        for n in range(1, count + 1)
    ]


def asked(api: FakeEngine) -> int:
    async def look() -> int:
        headers = {"Authorization": f"Bearer {api.key}"}
        async with aiohttp.request("GET", api.url + "/fake/state", headers=headers) as response:
            return len((await response.json())["asked"])

    return asyncio.run(look())


@pytest.mark.parametrize(
    ("straight", "turned", "choice", "flipped"),
    [
        ("Better.\nverdict: 1", "verdict: 2", "first", False),
        ("verdict: 2", "**Verdict:** 1", "second", False),
        ("verdict: tie", "verdict: Tie.", "tie", False),
        ("verdict: 1", "verdict: 1", "tie", True),
        ("verdict: 1", "verdict: tie", "tie", True),
        ("First I thought verdict: 2, but no. Verdict: 1", "verdict: 2", "first", False),
        ("As a poem: roses are red", "verdict: 1", None, False),
        ("verdict: 1", "verdict: 12", None, False),
    ],
)
def test_both_orders_make_one_judgement(
    straight: str, turned: str, choice: str | None, flipped: bool
) -> None:
    found = combine("test.jsonl:1", straight, turned)
    assert (found.choice, found.flipped) == (choice, flipped)
    assert ("gave no verdict" in found.error) is (choice is None)


def test_verdicts_are_kept_and_not_asked_for_again(api: FakeEngine, tmp_path: Path) -> None:
    kept = tmp_path / "judge" / "verdicts.jsonl"
    first = judge(served(api, "echo"), cases(2), kept)
    assert [one.choice for one in first] == ["tie", "tie"]
    assert asked(api) == 4
    kept.write_text(kept.read_text()[:-5])
    assert judge(served(api, "echo"), cases(2), kept) == first  # a kill cut the last line off
    assert asked(api) == 6
    assert judge(served(api, "echo"), cases(2), kept) == first
    assert asked(api) == 6


def test_a_judge_who_prefers_what_stands_first(api: FakeEngine, tmp_path: Path) -> None:
    (found,) = judge(served(api, "second-thought"), cases(1, first=FLIPPING), tmp_path / "kept")
    assert (found.choice, found.flipped) == ("tie", True)


def test_nonsense_is_a_result_and_asked_again(api: FakeEngine, tmp_path: Path) -> None:
    found = judge(served(api, "surrogate"), cases(5), tmp_path / "kept")
    assert all("test.jsonl" in one.error and "no verdict" in one.error for one in found)
    before = asked(api)
    judge(served(api, "surrogate"), cases(1), tmp_path / "kept")
    assert asked(api) == before + 2


@pytest.mark.parametrize("behaviour", ["500", "drop", "die-mid-stream", "not-json", "hang"])
def test_a_judge_that_fails_is_given_up(api: FakeEngine, tmp_path: Path, behaviour: str) -> None:
    found = judge(served(api, behaviour), cases(5), tmp_path / "kept", timeout=0.3)
    assert [one.choice for one in found] == [None] * 5
    assert ["not asked" in one.error for one in found] == [False] * 3 + [True] * 2
    assert all(one.error.startswith(one.source) for one in found)


def test_a_refused_key_stops_at_once(api: FakeEngine, tmp_path: Path) -> None:
    with pytest.raises(EngineRejected, match="refuses our key"):
        judge(served(api, "401"), cases(5), tmp_path / "kept")
    assert asked(api) == 1


def test_damaged_verdicts(api: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("{}\n")
    with pytest.raises(StorageError, match="damaged verdicts"):
        judge(served(api, "echo"), cases(1), tmp_path / "kept")


def test_agreement_leaves_out_what_has_no_verdict() -> None:
    said = [
        combine("a", "verdict: tie", "verdict: tie"),
        combine("b", "verdict: 1", "verdict: 2"),
        combine("c", "?", "?"),
    ]
    found = agreement(said, ["similar", "different", "exact"])
    assert (found.value, found.n) == (1.0, 2)
