from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from residency.errors import ModelError
from residency.export.convert import convert
from tests.specialist import Specialist


def test_a_model_that_llama_cpp_does_not_know_is_refused_with_its_reason(
    specialist: Specialist, tmp_path: Path
) -> None:
    folder = tmp_path / "unknown"
    shutil.copytree(specialist.base.path, folder)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["AbacusForCausalLM"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="AbacusForCausalLM is not supported"):
        convert(folder, tmp_path / "model.gguf", "unknown")
