"""Each method of training on a tiny model, through the stage itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from residency import hardware
from residency.builds import read_training
from residency.config import TrainSettings
from residency.errors import SettingsError
from residency.models import folder
from residency.models.base import BaseModel
from residency.train import weights
from residency.train.plan import Plan, make_plan
from tests import specialist
from tests.train import runs

ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}


@pytest.fixture(scope="module")
def tiny(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tiny")
    return specialist.make_base(place / "base", base.path, width=64).path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_dataset(tmp_path_factory.mktemp("data") / "dataset").path


def losses(record: Any) -> list[float]:
    return [loss for _, loss in record.figures["losses"]["train"]]


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_an_adapter_learns(tmp_path: Path, tiny: Path, dataset: Path, method: str) -> None:
    record = runs.train(tmp_path, tiny, dataset, method=method, precision="auto")
    adapter = runs.output(tmp_path, record)
    assert losses(record)[-1] < losses(record)[0] - 2
    assert record.outputs["adapter"]["kind"] == "adapter"
    assert read_training(adapter).method == method
    assert (adapter / "fingerprint.json").exists()


@pytest.fixture(scope="module")
def in_four_bits() -> Plan:
    return make_plan(
        TrainSettings(method="qlora", rank=4),
        parameters=10**6,
        lengths=[20] * 8,
        hardware=hardware.read(),
    )


def test_weights_in_four_bits_keep_no_file_mapped(
    tmp_path: Path, tiny: Path, in_four_bits: Plan
) -> None:
    own = Path(shutil.copytree(tiny, tmp_path / "own"))
    model = weights.load(own, in_four_bits)
    assert str(own) not in Path("/proc/self/maps").read_text()
    assert model.get_output_embeddings().weight.std() > 0


def test_weights_in_four_bits_still_give_gradients_after_an_evaluation(
    tiny: Path, in_four_bits: Plan
) -> None:
    """bitsandbytes packs them anew to evaluate, on some processors, and then has no gradients."""
    import torch

    torch.manual_seed(1)
    model = weights.load(tiny, in_four_bits)
    model = weights.with_adapter(model, in_four_bits, TrainSettings())
    ids = torch.arange(40)[None]

    def gradients() -> list[Any]:
        model.train()
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    before = gradients()
    model.eval()
    with torch.no_grad():
        model(input_ids=ids)
    after = gradients()
    assert len(before) == len(after) > 0
    pairs = zip(before, after, strict=True)
    assert all(one.allclose(two, rtol=0.05, atol=1e-4) for one, two in pairs)
    assert any(one.abs().max() > 1e-3 for one in before)


def test_a_model_is_trained_whole(tmp_path: Path, tiny: Path, dataset: Path) -> None:
    from safetensors.torch import load_file

    record = runs.train(tmp_path, tiny, dataset, method="full")
    model = runs.output(tmp_path, record)
    folder.check(model)
    assert losses(record)[-1] < losses(record)[0] - 2
    assert read_training(model).words == "all weights"
    before, after = (load_file(place / "model.safetensors") for place in (tiny, model))
    assert before.keys() == after.keys()
    assert all(not before[name].float().equal(after[name].float()) for name in before)


def test_attention_alone_with_dora_and_rslora(tmp_path: Path, tiny: Path, dataset: Path) -> None:
    settings = {"target_modules": "attention", "dora": True, "rslora": True, "rank": 4}
    record = runs.train(tmp_path, tiny, dataset, epochs=0.5, **settings)
    adapter = runs.output(tmp_path, record)
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert set(config["target_modules"]) == ATTENTION
    assert (config["use_dora"], config["use_rslora"]) == (True, True)
    assert read_training(adapter).words.startswith("LoRA with DoRA with rsLoRA: rank 4, alpha 8")


def test_an_unknown_module_is_named_with_the_nearest(
    tmp_path: Path, tiny: Path, dataset: Path
) -> None:
    with pytest.raises(SettingsError, match="no linear layer 'q_porj'") as caught:
        runs.train(tmp_path, tiny, dataset, target_modules=["k_proj", "q_porj"])
    assert caught.value.hint == "did you mean q_proj?"


def test_activations_computed_again_give_the_same_losses(
    tmp_path: Path, tiny: Path, dataset: Path
) -> None:
    plain, again = (
        runs.train(tmp_path / str(on), tiny, dataset, epochs=0.5, checkpointing=on)
        for on in (False, True)
    )
    assert losses(plain) == pytest.approx(losses(again), abs=2e-4)
    assert again.figures["plan"]["checkpointing"]
