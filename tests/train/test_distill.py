"""Distillation from probabilities: the student, its loss, and a teacher that does not fit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from residency.errors import ModelError, SettingsError
from residency.models.base import BaseModel
from residency.models.own_tokenizer import write_tokenizer
from residency.store import digest_tree
from residency.train import student
from residency.train.batch import Batches
from residency.train.distill import TEACHER_SHARE, student_loss
from tests import specialist
from tests.train import runs

ROWS = [
    {"input_ids": [5, 6, 7, 8, 9, 10], "labels": [-100, -100, -100, 8, 9, 10]},
    {"input_ids": [5, 6, 11, 12], "labels": [-100, -100, -100, 12]},
]


@pytest.fixture(scope="module")
def teacher(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of five layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    place = tmp_path_factory.mktemp("teacher") / "five"
    small = specialist.make_base(place, base.path, width=64)
    config = LlamaConfig.from_pretrained(small.path, num_hidden_layers=5)
    LlamaForCausalLM(config).half().save_pretrained(place)
    return place


def test_layers_are_chosen_evenly() -> None:
    assert student.evenly(30, 15) == [0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29]
    assert student.evenly(5, 3) == [0, 2, 4]
    assert student.evenly(5, 5) == [0, 1, 2, 3, 4]
    assert student.evenly(5, 1) == [0]


def test_a_student_is_its_base_model_without_some_layers(teacher: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    made = student.begin(teacher, teacher, None, tmp_path / "student")
    ours, whole = (load_file(p / "model.safetensors") for p in (made, teacher))
    for mine, its in ((0, 0), (1, 2), (2, 4)):
        name = "model.layers.{}.mlp.up_proj.weight"
        assert ours[name.format(mine)].equal(whole[name.format(its)])
    assert ours["model.embed_tokens.weight"].equal(whole["model.embed_tokens.weight"])
    assert "model.layers.3.mlp.up_proj.weight" not in ours
    with pytest.raises(SettingsError, match="student_layers is 9, and the base model has 5"):
        student.begin(teacher, teacher, 9, tmp_path / "more")


def test_a_teacher_with_other_tokens_is_refused_before_its_weights_are_read(
    teacher: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(teacher, other)
    (other / "model.safetensors").write_bytes(b"no weights at all")
    student.check_same_tokenizer(teacher, other)
    template = other / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    with pytest.raises(ModelError, match="cannot teach five: its chat template is another"):
        student.begin(teacher, other, None, tmp_path / "student")
    shutil.rmtree(other)
    other.mkdir()
    write_tokenizer(["some text"] * 9, 300, other)
    with pytest.raises(ModelError, match=r"its vocabulary is another: \d+ tokens"):
        student.begin(teacher, other, None, tmp_path / "student")


def models(seed: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    return LlamaForCausalLM(config).eval()


def test_the_loss_is_the_divergence_and_the_cross_entropy() -> None:
    """Against the definition, row by row without padding or a shared sequence."""
    import torch
    from torch.nn.functional import cross_entropy
    from trl.experimental.gkd import GKDTrainer

    ours, its = models(1), models(2)
    got = student_loss(ours, its, Batches(2)(ROWS), GKDTrainer.generalized_jsd_loss)
    apart, own = [], []
    for row in ROWS:
        ids, labels = (torch.tensor(row[name]) for name in ("input_ids", "labels"))
        at = (labels[1:] != -100).nonzero().flatten()
        p, q = (torch.log_softmax(m(input_ids=ids[None]).logits[0, at], -1) for m in (its, ours))
        apart += (p.exp() * (p - q)).sum(-1).tolist()
        own += cross_entropy(q, labels[1:][at], reduction="none").tolist()
    mean = [sum(values) / len(values) for values in (apart, own)]
    wanted = TEACHER_SHARE * mean[0] + (1 - TEACHER_SHARE) * mean[1]
    assert got.item() == pytest.approx(wanted, rel=1e-4)
    assert mean[0] > 0.001


@pytest.mark.slow
def test_a_run_leaves_a_whole_model_and_a_seed_decides_it(teacher: Path, tmp_path: Path) -> None:
    dataset = runs.write_dataset(tmp_path / "dataset").path
    given = {"method": "distill", "teacher_model": str(teacher), "epochs": 2}
    folders = []
    for name in ("one", "two"):
        record = runs.train(tmp_path / name, teacher, dataset, **given)
        folders.append(runs.output(tmp_path / name, record))
        validation = [loss for _, loss in record.figures["losses"]["validation"]]
        assert validation[-1] < validation[0]
    assert (folders[0] / "chat_template.jinja").exists()
    one, two = map(digest_tree, folders)
    assert one == two


@pytest.mark.slow
def test_killed_and_resumed_is_undisturbed(teacher: Path, tmp_path: Path) -> None:
    dataset = runs.write_dataset(tmp_path / "dataset").path
    given = {
        "method": "distill",
        "teacher_model": str(teacher),
        "epochs": 16,
        "patience": 40,
        "learning_rate": 1e-3,
    }
    whole = runs.train(tmp_path / "whole", teacher, dataset, **given)
    runs.kill_after_checkpoints(tmp_path / "killed", teacher, dataset, **given)
    resumed = runs.train(tmp_path / "killed", teacher, dataset, **given)
    assert resumed.figures == whole.figures
    mine, its = (
        digest_tree(runs.output(tmp_path / name, record))
        for name, record in (("killed", resumed), ("whole", whole))
    )
    assert mine == its
