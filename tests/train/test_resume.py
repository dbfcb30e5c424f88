"""A run that was killed goes on, and ends with the losses and the bytes of an undisturbed one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from residency.models.base import BaseModel
from residency.store import digest_tree
from tests import specialist
from tests.train import runs


@pytest.fixture(scope="module")
def tiny(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tiny")
    return specialist.make_base(place / "base", base.path, width=64).path


@pytest.mark.parametrize("method", ["lora", pytest.param("full", marks=pytest.mark.slow)])
def test_killed_and_resumed_is_undisturbed(tmp_path: Path, tiny: Path, method: str) -> None:
    dataset = runs.write_dataset(tmp_path / "dataset").path
    settings = {"method": method, "epochs": 8, "patience": 16}
    whole = runs.train(tmp_path / "whole", tiny, dataset, **settings)
    runs.kill_after_checkpoints(tmp_path / "killed", tiny, dataset, **settings)
    resumed = runs.train(tmp_path / "killed", tiny, dataset, **settings)
    assert len(whole.figures["losses"]["train"]) == 64
    assert resumed.figures == whole.figures
    mine, its = (
        digest_tree(runs.output(tmp_path / name, record))
        for name, record in (("killed", resumed), ("whole", whole))
    )
    assert mine == its


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path: Path, tiny: Path) -> None:
    """The same rows a step, each process with half of them; their gradients are averaged."""
    from safetensors.torch import load_file

    dataset = runs.write_dataset(tmp_path / "dataset").path
    one, two = (
        runs.train(tmp_path / str(count), tiny, dataset, processes=count) for count in (1, 2)
    )
    assert (one.figures["processes"], two.figures["processes"]) == (1, 2)
    for split in ("train", "validation"):
        mine, its = ([loss for _, loss in record.figures["losses"][split]] for record in (one, two))
        assert mine == pytest.approx(its, abs=1e-3)
    mine, its = (
        load_file(runs.output(tmp_path / name, record) / "adapter_model.safetensors")
        for name, record in (("1", one), ("2", two))
    )
    assert all(mine[name].allclose(its[name], atol=1e-3) for name in mine)


@pytest.mark.slow
def test_the_number_of_processes_is_measured_and_kept(tmp_path: Path, tiny: Path) -> None:
    dataset = runs.write_dataset(tmp_path / "dataset").path
    settings = {"processes": 0, "threads": 2, "epochs": 11, "patience": 22}
    plan = runs.train(tmp_path / "run", tiny, dataset, **settings).figures["plan"]
    assert (plan["processes"], plan["threads"]) in {(1, 2), (2, 1)}
    times = re.search(r"seconds for 6 steps by processes: 1: (\S+), 2: (\S+)$", plan["reasons"][-1])
    assert times
    one, two = map(float, times.groups())
    assert plan["processes"] == (1 if one <= two else 2)
