"""Two processes that hold half of a model each learn what one does with all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from residency.fingerprint import compare, probes, read_fingerprint, take_torch
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer
from residency.store import digest_tree
from tests import specialist
from tests.train import runs

pytestmark = pytest.mark.slow
SHARDED = {"processes": 2, "sharded": True}


@pytest.fixture(scope="module")
def tiny(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tiny")
    return specialist.make_base(place / "base", base.path, width=64).path


def whole(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32")


def assert_says_the_same(model: Any, tokenizer_of: Path, dataset: Path, output: Path) -> None:
    """What was written, in one piece, says what its fingerprint holds, taken in shards."""
    taken = take_torch(model, load_tokenizer(tokenizer_of), probes(dataset))
    reference = read_fingerprint(output / "fingerprint.json")
    compare(reference, taken, step="loading it whole", tolerance=1e-6)


def test_a_half_each_learns_what_one_process_does(tmp_path: Path, tiny: Path) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file

    dataset = runs.write_dataset(tmp_path / "dataset").path
    one = runs.train(tmp_path / "one", tiny, dataset, epochs=1)
    two = runs.train(tmp_path / "two", tiny, dataset, epochs=1, **SHARDED)
    assert two.figures["processes"] == 2
    for split in ("train", "validation"):
        mine, its = ([loss for _, loss in record.figures["losses"][split]] for record in (one, two))
        assert mine == pytest.approx(its, abs=1e-3)
    places = [runs.output(tmp_path / name, record) for name, record in (("one", one), ("two", two))]
    mine, its = (load_file(place / "adapter_model.safetensors") for place in places)
    assert mine.keys() == its.keys()
    assert all(mine[name].allclose(its[name], atol=1e-3) for name in mine)
    model = PeftModel.from_pretrained(whole(tiny), places[1])
    weights = sum(weight.numel() for weight in model.parameters())
    assert two.figures["held"] == [weights // 2] * 2
    assert_says_the_same(model, tiny, dataset, places[1])


def test_killed_and_resumed_is_undisturbed(
    tmp_path: Path, tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of all weights, with activations computed twice; each process has its part of a checkpoint,
    and what is written in the end is one model."""
    from safetensors.torch import load_file

    dataset = runs.write_dataset(tmp_path / "dataset").path
    settings = {"method": "full", "epochs": 4, "patience": 8, "checkpointing": True, **SHARDED}
    undisturbed = runs.train(tmp_path / "whole", tiny, dataset, **settings)
    runs.kill_after_checkpoints(tmp_path / "killed", tiny, dataset, **settings)
    resumed = runs.train(tmp_path / "killed", tiny, dataset, **settings)
    assert "resuming at step" in capfd.readouterr().err
    assert resumed.figures == undisturbed.figures
    mine, its = (
        runs.output(tmp_path / name, record)
        for name, record in (("whole", undisturbed), ("killed", resumed))
    )
    assert digest_tree(mine) == digest_tree(its)
    files = (load_file(folder / "model.safetensors") for folder in (tiny, its))
    before, after = ({name: weight.shape for name, weight in file.items()} for file in files)
    assert after == before
    assert_says_the_same(whole(its), its, dataset, its)
