"""Runs that really are healthy or ill; the causes and the curves have tests of their own."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from residency.errors import RefusedError
from residency.models.base import BaseModel
from residency.store import Store, digest_tree
from residency.train.diagnosis import Retry
from residency.train.retry import go_back, lower_rate, read_retries
from residency.train.trainer import COMPLETE
from residency.types import Record, to_json
from tests.specialist import TOKENIZER_FILES, make_base
from tests.train import runs
from tests.train.diseases import dataset, diagnosed, memorable, row, rows

SECONDS = 120.0  # for a first checkpoint of a retry, on a busy machine


@pytest.fixture(scope="module")
def small(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    return make_base(folder / "base", base.path, width=64, spread=0.02).path


def train(folder: Path, base: Path, data: Path, **settings: object) -> Record:
    return runs.train(folder, base, data, **{"method": "full", "batch": 8, **settings})


def test_healthy(small: Path, tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", rows(100), rows(12, seed=2))
    record = train(tmp_path, small, data, learning_rate=6e-3, epochs=4.0)
    assert record.figures["diagnosis"]["state"] == "healthy"
    assert record.figures["retries"] == []
    found = diagnosed(tmp_path, record)
    assert len(found["curves"]["train"]) == record.figures["steps"]
    assert len(found["curves"]["norms"]) == len(found["curves"]["rates"])
    assert sum(one["after"] == one["reference"] for one in found["examples"]) >= 5
    assert not any(one["before"] == one["reference"] for one in found["examples"])


def test_not_learning_for_three_reasons(small: Path, tmp_path: Path) -> None:
    """A rate that is far too low; and contradictions and refusals, with their rows on the page."""
    bad = [row(one.question.upper(), "visit", 500 + n) for n, one in enumerate(rows(50)[:8])]
    bad += [row(f"case {n}", "I'm sorry, I cannot help with that.", 900 + n) for n in range(12)]
    data = dataset(tmp_path / "data", [*rows(50), *bad], rows(12, seed=2))
    record = train(tmp_path, small, data, learning_rate=1e-6, epochs=2.0)
    assert record.figures["diagnosis"]["state"] == "not learning"
    counts = {one["name"]: one["count"] for one in record.figures["causes"]}
    assert "learning rate" in counts
    assert counts["refusals"] == 12
    assert 1 <= counts["contradictory answers"] <= 8
    refusals = next(c for c in diagnosed(tmp_path, record)["causes"] if c["name"] == "refusals")
    assert refusals["rows"][0] == "rows:900"


@pytest.mark.slow
def test_overfitting(small: Path, tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", memorable(20), memorable(20, seed=9))
    record = train(tmp_path, small, data, learning_rate=3e-3, epochs=40.0, patience=40)
    assert record.figures["diagnosis"]["state"] == "overfitting"
    assert "too few rows" in [one["name"] for one in record.figures["causes"]]


def test_exploding_and_the_retry(
    small: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = dataset(tmp_path / "data", rows(80), rows(12, seed=2))
    record = train(tmp_path, small, data, learning_rate=0.9, epochs=2.0)
    (retry,) = record.figures["retries"]
    assert (retry["rate"], retry["back_to"]) == (0.9, 0)
    assert retry["next_rate"] == record.figures["plan"]["learning_rate"] < 0.9
    assert record.figures["diagnosis"]["state"] in ("healthy", "not learning")
    assert record.figures["steps"] == record.figures["planned_steps"]
    assert f"on at learning rate {retry['next_rate']:g} instead of 0.9" in capfd.readouterr().err
    assert "learning rate" in [one["name"] for one in record.figures["causes"]]


@pytest.mark.slow
def test_data_that_no_rate_can_save_is_refused(small: Path, tmp_path: Path) -> None:
    """The base model's own weights are no numbers."""
    import torch
    from transformers import AutoModelForCausalLM

    broken = tmp_path / "broken"
    model = AutoModelForCausalLM.from_pretrained(small)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    model.save_pretrained(broken)
    for name in TOKENIZER_FILES:
        (broken / name).write_bytes((small / name).read_bytes())
    data = dataset(tmp_path / "data", rows(40), rows(10, seed=2))
    with pytest.raises(RefusedError, match=r"diverged at learning rates 0\.9, .* no number"):
        train(tmp_path, broken, data, learning_rate=0.9, epochs=1.0)
    assert len(read_retries(next((tmp_path / ".residency/work").iterdir()))) == 2


@pytest.mark.slow
def test_a_kill_while_it_tries_again(small: Path, tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", rows(120), rows(20, seed=2))
    settings = {"method": "full", "batch": 8, "learning_rate": 0.9, "epochs": 4}
    whole = runs.train(tmp_path / "whole", small, data, **settings)
    process = runs.start(tmp_path / "killed", small, data, **settings)
    work = Store(tmp_path / "killed").root / "work" / f"train-{runs.KEY}"
    give_up = time.monotonic() + SECONDS
    while not list(work.glob(f"checkpoints-1/*/{COMPLETE}")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(read_retries(work)) == 1
    resumed = runs.train(tmp_path / "killed", small, data, **settings)
    assert resumed.figures == whole.figures
    mine, its = (
        digest_tree(runs.output(tmp_path / name, record))
        for name, record in (("killed", resumed), ("whole", whole))
    )
    assert mine == its


@pytest.mark.slow
def test_going_back_keeps_what_was_learnt_and_halves_the_rate(small: Path, tmp_path: Path) -> None:
    """As after a run that broke late: its last checkpoints are there, and the next try is due."""
    data = dataset(tmp_path / "data", rows(120), rows(20, seed=2))
    settings = {"method": "full", "batch": 8, "epochs": 8, "patience": 16}
    whole = runs.train(tmp_path / "whole", small, data, **settings)
    runs.kill_after_checkpoints(tmp_path / "killed", small, data, **settings)
    work = Store(tmp_path / "killed").root / "work" / f"train-{runs.KEY}"
    before = json.loads((work / "before.json").read_text())["start"]["loss"]
    rate = runs.QUICK["learning_rate"]
    step = go_back(
        work / "checkpoints", work / "checkpoints-1", start=before, rate=rate / 2, was=rate
    )
    retry = Retry(rate=rate, words="it broke", back_to=step, next_rate=rate / 2)
    (work / "retries.json").write_text(to_json([retry]))
    record = runs.train(tmp_path / "killed", small, data, **settings)
    assert step > 0
    assert record.figures["retries"][0]["back_to"] == step
    full = dict(diagnosed(tmp_path / "whole", whole)["curves"]["rates"])
    half = dict(diagnosed(tmp_path / "killed", record)["curves"]["rates"])
    assert set(half) == set(full)
    for at, value in half.items():
        assert value == pytest.approx(full[at] / (2 if at > step else 1))


def test_nothing_good_to_go_back_to(tmp_path: Path) -> None:
    assert go_back(tmp_path / "none", tmp_path / "next", start=2.5, rate=0.1, was=0.9) == 0
    assert not (tmp_path / "next").exists()


def test_a_lower_rate() -> None:
    assert lower_rate(1.0, 1e-3) == 1e-3
    assert lower_rate(1e-3, 1e-3) == 5e-4
    assert lower_rate(2e-4, 1e-3) == 1e-4
