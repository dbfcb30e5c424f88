"""Training that runs out of memory goes on with a lighter step."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from residency.config import TrainSettings
from residency.conversations import write_conversations
from residency.errors import MissingError, OutOfMemory
from residency.models.base import BaseModel
from residency.train.job import Job
from residency.train.ladder import lighter, noticing, train_within_memory
from residency.train.plan import Plan
from tests import specialist
from tests.train import runs

PLAN = Plan(
    method="lora",
    epochs=1,
    learning_rate=1e-3,
    rank=32,
    alpha=64,
    dropout=0,
    batch=4,
    precision="float32",
    threads=1,
    reasons=(),
)
ALL = (
    "gradient checkpointing on",
    "batch 4 -> 2, accumulation 1 -> 2",
    "batch 2 -> 1, accumulation 2 -> 4",
    "length 600 -> 300",
    "length 300 -> 256",
    "rank 32 -> 16",
    "rank 16 -> 8",
)


def exhaust(plan: Plan) -> dict[str, object]:
    """Ask torch for more than any machine has."""
    import torch

    with noticing():
        torch.empty(1 << 50, dtype=torch.uint8)
    return {}


def job(folder: Path) -> Job:
    return Job(base=folder, dataset=folder, settings=TrainSettings(), folder=folder)


def test_the_steps_are_those_of_the_source_in_its_order() -> None:
    plan, found = PLAN, list[str]()
    while change := lighter(plan, longest=600, may_checkpoint=True):
        plan = plan.changed(change.words, **change.values)
        found.append(change.words)
    assert tuple(found) == ALL
    assert (plan.batch, plan.rows_at_once, plan.length) == (4, 1, 256)
    assert (plan.rank, plan.alpha) == (8, 16)


def test_three_rows_are_still_three_a_step() -> None:
    plan = dataclasses.replace(PLAN, batch=3, checkpointing=True)
    change = lighter(plan, longest=100, may_checkpoint=True)
    assert change is not None
    below = plan.changed("", **change.values)
    assert (below.batch, below.rows_at_once, below.accumulation) == (3, 1, 3)


def test_the_end_of_the_ladder_is_refused_with_what_was_tried(tmp_path: Path) -> None:
    lengths = list[int]()
    with pytest.raises(MissingError, match="rank 16 -> 8") as caught:
        train_within_memory(exhaust, job(tmp_path), PLAN, longest=600, shorten=lengths.append)
    assert not isinstance(caught.value, OutOfMemory)
    assert "smaller base model" in caught.value.hint
    assert set(lengths) == {300, 256}


def test_a_run_that_was_killed_goes_on_from_its_rung(tmp_path: Path) -> None:
    def killed(plan: Plan) -> dict[str, object]:
        if plan.batch // plan.accumulation > 1:
            return exhaust(plan)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_within_memory(killed, job(tmp_path), PLAN, longest=200, shorten=print)
    seen = list[Plan]()
    figures = train_within_memory(
        lambda plan: {"plan": seen.append(plan)}, job(tmp_path), PLAN, longest=200, shorten=print
    )
    assert figures["ladder"] == list(ALL[:3])
    assert [(plan.accumulation, plan.checkpointing) for plan in seen] == [(4, True)]
    assert seen[0].reasons[-1] == f"{ALL[2]}: training ran out of memory"


def test_other_errors_are_not_taken_for_it() -> None:
    with pytest.raises(RuntimeError, match="shapes"), noticing():
        raise RuntimeError("shapes do not match")


@pytest.mark.slow
def test_a_run_with_little_memory_is_finished_with_fewer_rows(
    tmp_path: Path, base: BaseModel
) -> None:
    """The logits of eight rows with long answers are a gigabyte; 500 MB are what it gets."""
    tiny = specialist.make_base(tmp_path / "base", base.path, width=64).path
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    for split in ("train", "validation"):
        rows = [runs.conversation(f"which one, {i}?", "about the bill, " * 48) for i in range(8)]
        write_conversations(dataset / f"{split}.jsonl", rows)
    settings = json.dumps({"epochs": 1, "batch": 8})
    child = [sys.executable, "-m", "tests.train.tight", "500"]
    done = subprocess.run(
        [*child, str(tmp_path / "run"), str(tiny), str(dataset), settings],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])["figures"]
    assert figures["ladder"][:2] == [
        "gradient checkpointing on",
        "batch 8 -> 4, accumulation 1 -> 2",
    ]
    assert figures["plan"]["batch"] == 8
    assert "training ran out of memory" in done.stderr
    assert "going on with batch 8 -> 4, accumulation 1 -> 2" in done.stderr
