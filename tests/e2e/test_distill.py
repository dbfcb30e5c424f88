"""Both ways of distillation through the whole chain, on a small model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from residency.models.base import BaseModel
from residency.models.shape import stored_weights
from residency.store import Store
from tests import specialist
from tests.data.test_label import Fake
from tests.e2e.conftest import SETTINGS, residency, rows

PROMPTS = [row["prompt"] for row in rows()]


@pytest.fixture
def small(base: BaseModel, tmp_path: Path) -> BaseModel:
    return specialist.make_base(tmp_path / "small", base.path)


def workspace(folder: Path, base: Path, train: str) -> Path:
    folder.mkdir()
    text = SETTINGS.replace("[data]", f'[model]\nbase = "{base}"\n[data]', 1)
    text = text.replace("[train]\n", "[train]\n" + train, 1)
    # Random weights do not bear four bits.
    text = text.replace('levels = ["Q8_0", "Q4_K_M"]', 'levels = ["Q8_0"]')
    (folder / "residency.toml").write_text(text)
    return folder


@pytest.mark.slow
def test_from_answers_the_record_says_who_taught(small: BaseModel, tmp_path: Path) -> None:
    teacher = Fake()
    try:
        folder = workspace(tmp_path / "desk", small.path, 'method = "distill"\n')
        settings = folder / "residency.toml"
        settings.write_text(
            f"""{settings.read_text()}
[train.teacher]
url = "{teacher.url}"
model = "big"
"""
        )
        asked = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS)
        (folder / "desk.jsonl").write_text(asked)
        said = json.loads(residency("run", "--workspace", folder, "--json").stdout)
        requests = teacher.state()["requests"]
        again = json.loads(residency("run", "--workspace", folder, "--json").stdout)
        assert all(stage["cached"] for stage in again["stages"])
        assert teacher.state()["requests"] == requests == len(PROMPTS)
    finally:
        teacher.stop()
    assert [stage["stage"] for stage in said["stages"]][:3] == ["label", "data", "train"]
    assert said["stages"][0]["figures"]["teacher"] == {"model": "big", "host": "127.0.0.1"}
    lineage = json.loads(residency("lineage", "--workspace", folder, "--json").stdout)
    assert lineage["lineage"]["from"]["dataset"]["from"]["labelled"]["stage"] == "label"


@pytest.mark.slow
def test_from_probabilities_a_smaller_model_is_served(small: BaseModel, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    deep = Path(shutil.copytree(small.path, tmp_path / "deep"))
    LlamaForCausalLM(LlamaConfig.from_pretrained(small.path, num_hidden_layers=2)).save_pretrained(
        deep
    )
    train = f'method = "distill"\nteacher_model = "{deep}"\nstudent_layers = 1\n'
    folder = workspace(tmp_path / "desk", deep, train)
    settings = folder / "residency.toml"
    settings.write_text(settings.read_text().replace("rank = 4\n", ""))
    pairs = [{"prompt": prompt, "completion": prompt.upper()} for prompt in PROMPTS]
    (folder / "desk.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    said = json.loads(residency("run", "--workspace", folder, "--json").stdout)
    outputs = said["stages"][1]["outputs"]
    assert outputs["model"]["kind"] == "model"
    assert said["stages"][1]["figures"]["parameters"] < stored_weights(deep)
    assert said["release"]
    store = Store(folder)
    record = next(record for record in store.records() if record.stage == "export")
    assert record.inputs["model"] == outputs["model"]["digest"]
    assert residency("ask", "where is my bill", "--workspace", folder).stdout
