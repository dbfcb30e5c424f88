import json
from pathlib import Path

import pytest

from residency.config import TrainSettings
from residency.errors import MissingError, SettingsError
from residency.hardware import Hardware
from residency.train.contradictions import check
from residency.train.plan import Plan, make_plan
from residency.train.room import fit_memory

SHAPE = {
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "intermediate_size": 512,
    "vocab_size": 1000,
}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "full", "rank": 8}, "rank is an adapter's, and method full makes none"),
        ({"method": "scratch", "alpha": 8}, "alpha is an adapter's, and method scratch"),
        ({"method": "full", "dora": True}, "dora is an adapter's"),
        ({"method": "full", "target_modules": "attention"}, "target_modules is an adapter's"),
        ({"method": "qlora", "precision": "float32"}, "float32 contradicts method qlora"),
        ({"target_modules": []}, "empty list"),
        ({"sharded": True}, "sharded divides the model among processes, and processes is 1"),
        ({"sharded": True, "processes": 0}, "and processes is 0"),
        ({"sharded": True, "processes": 2, "method": "qlora"}, "sharded contradicts method qlora"),
        (
            {"sharded": True, "processes": 2, "method": "distill", "teacher_model": "big"},
            "sharded divides one model, and with teacher_model there are two",
        ),
    ],
)
def test_contradictions_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        check(TrainSettings.model_validate(settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "full", "target_modules": "all-linear", "dora": False},
        {"method": "qlora", "dora": True, "rank": 4},
        {"method": "lora", "precision": "float32"},
        {"method": "lora", "dora": True, "processes": 2, "sharded": True},
    ],
)
def test_what_goes_together_passes(settings: dict) -> None:
    check(TrainSettings.model_validate(settings))


def plan(**settings: object) -> Plan:
    machine = Hardware(processor="p", cores=2, memory=2**33, flags=frozenset())
    given = TrainSettings.model_validate(settings)
    return make_plan(given, parameters=10**6, lengths=[50] * 40, hardware=machine)


def model(folder: Path, **changes: int) -> Path:
    (folder / "config.json").write_text(json.dumps({**SHAPE, **changes}))
    return folder


def test_a_gpu_that_is_not_there_is_missing(tmp_path: Path) -> None:
    wanted = plan(device="cuda")
    with pytest.raises(MissingError, match="device cuda with 1 process, and torch sees 0 GPUs"):
        fit_memory(wanted, TrainSettings(device="cuda"), model(tmp_path), 50)


def test_a_model_too_large_for_this_machine_is_refused(tmp_path: Path) -> None:
    huge = model(tmp_path, hidden_size=2**17, intermediate_size=2**18, num_hidden_layers=200)
    with pytest.raises(MissingError, match=r"GB before the first row, and .* GB of memory are"):
        fit_memory(plan(), TrainSettings(), huge, 50)


def test_activations_are_computed_again_only_where_memory_asks_for_it(tmp_path: Path) -> None:
    small = model(tmp_path)
    assert not fit_memory(plan(), TrainSettings(), small, 50).checkpointing
    long = fit_memory(plan(), TrainSettings(), small, 10**8)
    assert long.checkpointing
    assert "gradient checkpointing on: " in long.reasons[-1]
    assert fit_memory(plan(), TrainSettings(checkpointing=True), small, 50).checkpointing
    off = fit_memory(plan(), TrainSettings(checkpointing=False), small, 10**8)
    assert off.reasons[-1] == "gradient checkpointing off: as set"
