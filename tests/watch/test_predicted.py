"""The memo and the verdict beside what happened."""

import dataclasses
from pathlib import Path

import pytest

from residency import releases
from residency.config import WatchSettings
from residency.decide import answers, predictions, prices
from residency.decide.decision import decide
from residency.decide.facts import MONTH
from residency.decide.predictions import Kept
from residency.store import Store
from residency.types import Rate
from residency.watch import predicted
from residency.watch.history import History
from residency.watch.predicted import Predicted, Row
from tests.decide.conftest import CASES
from tests.serve.releases import release
from tests.watch.exchanges import served

FIRST = 1_800_000_000.0


@pytest.fixture(scope="module")
def kept() -> Kept:
    facts = answers.facts(answers.load(CASES / "support-desk.toml"))
    decided = decide(facts, prices.load())
    return Kept(created="2026-12-01T12:00:00.000+00:00", facts=facts, decision=decided)


def history(kept: Kept, share: float = 1.0, seconds: float = 0.5) -> History:
    """A month with `share` of the calls and of the bill that the decision rests on."""
    found = History(start=FIRST, end=FIRST + MONTH, settings=WatchSettings(), remote=())
    for n in range(100):
        found.add(served(n, "x", time=FIRST + n * MONTH / 100, latency=seconds))
    found.first, found.last = FIRST, FIRST + MONTH
    found.total.requests = round(share * sum(one.calls for one in kept.facts.loads))
    found.total.cost = share * sum(one.cost or 0.0 for one in kept.facts.loads)
    return found


def compared(workspace: Path, found: History, right: int = 0, rated: int = 0) -> Predicted:
    return predicted.compare(workspace, found, right, rated)


def row(found: Predicted, what: str) -> Row:
    (one,) = [one for one in found.rows if one.what.startswith(what)]
    return one


def test_a_month_as_foreseen_is_inside(kept: Kept, tmp_path: Path) -> None:
    predictions.keep(tmp_path / "reports", kept)
    found = compared(tmp_path, history(kept))
    assert row(found, "calls").outcome == row(found, "bill").outcome == "inside"
    assert row(found, "calls").unit == "calls"
    far = compared(tmp_path, history(kept, share=5.0))
    assert row(far, "calls").outcome == row(far, "bill").outcome == "outside"


def test_latency_is_beside_what_was_estimated_at_home(kept: Kept, tmp_path: Path) -> None:
    predictions.keep(tmp_path / "reports", kept)
    low, high = row(compared(tmp_path, history(kept)), "seconds").foreseen
    assert 0 < low < high
    outcomes = [
        row(compared(tmp_path, history(kept, seconds=s)), "seconds").outcome
        for s in (low / 2, (low + high) / 2, high * 2)
    ]
    assert outcomes == ["better", "inside", "worse"]


@pytest.mark.parametrize(
    ("right", "rated", "outcome"),
    [(80, 100, "inside"), (20, 100, "worse"), (100, 100, "better"), (0, 0, "unknown")],
)
def test_right_answers_are_beside_the_verdict(
    kept: Kept, tmp_path: Path, right: int, rated: int, outcome: str
) -> None:
    one = release(model="desk")
    rate = Rate(value=0.8, low=0.72, high=0.86, n=100)
    verdict = dataclasses.replace(one.verdict, figures={"exact": rate})
    releases.write(Store(tmp_path), dataclasses.replace(one, verdict=verdict))
    found = compared(tmp_path, history(kept), right, rated)
    assert row(found, "share").outcome == outcome
    assert "no decision" in found.missing[0]


def test_where_nobody_foresaw_anything_it_says_so(kept: Kept, tmp_path: Path) -> None:
    found = compared(tmp_path, history(kept))
    assert found.rows == () and len(found.missing) == 2
