"""The records of decisions: none is lost, and the right one is found."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from residency.decide import predictions
from residency.decide.decision import Decision
from residency.decide.facts import Facts
from residency.decide.predictions import Kept
from residency.errors import InputError, StorageError

Case = Callable[[str], tuple[Facts, Decision]]
FIRST, SECOND, LATER = (datetime(2026, month, 3, 12, tzinfo=UTC) for month in (1, 2, 3))


@pytest.fixture
def kept(case: Case, tmp_path: Path) -> list[Kept]:
    facts, decision = case("support-desk")
    made = [
        Kept(created=predictions.stamp(time), facts=facts, decision=decision)
        for time in (FIRST, SECOND)
    ]
    for one in made:
        predictions.keep(tmp_path, one)
    return made


def test_the_last_before_a_time_comes_back_whole(kept: list[Kept], tmp_path: Path) -> None:
    assert predictions.last_before(tmp_path, SECOND.timestamp() - 1) == kept[0]
    assert predictions.last_before(tmp_path, LATER.timestamp()) == kept[1]
    latest = (tmp_path / predictions.LATEST).read_bytes()
    assert latest == max((tmp_path / predictions.FOLDER).iterdir()).read_bytes()


def test_calls_from_before_are_refused_with_the_day_to_begin_at(
    kept: list[Kept], tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        predictions.last_before(tmp_path, FIRST.timestamp() - 1)
    assert caught.value.hint.endswith("residency traffic report --since 2026-02-04")


def test_without_a_decision(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no decision"):
        predictions.last_before(tmp_path, 0)


def test_a_damaged_record_is_named(kept: list[Kept], tmp_path: Path) -> None:
    last = max((tmp_path / predictions.FOLDER).iterdir())
    last.write_text(last.read_text()[:-100])
    with pytest.raises(StorageError, match=re.escape(last.name)):
        predictions.last_before(tmp_path, LATER.timestamp())
