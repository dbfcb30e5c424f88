from __future__ import annotations

import json
from pathlib import Path

import pytest

from residency import hardware
from residency.config import ExportSettings, parse
from residency.engines.environments import GPTQ, VLLM
from residency.engines.vllm import unsupported
from residency.errors import EngineLoadError, MissingError, ModelError, SettingsError
from residency.export.gptq import group_size, make
from residency.fingerprint import compare, read_fingerprint
from residency.models.chat import load_tokenizer
from tests.export.conftest import Exported, asked, export
from tests.specialist import Specialist, conversations


@pytest.mark.parametrize(
    ("widths", "size"), [((512, 2048), 128), ((576, 1536), 64), ((96, 64), 32)]
)
def test_the_largest_group_that_divides_the_widths(
    tmp_path: Path, widths: tuple[int, int], size: int
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"hidden_size": widths[0], "intermediate_size": widths[1]}))
    assert group_size(config) == size


def test_widths_without_a_group_are_said(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"hidden_size": 100, "intermediate_size": 256}))
    with pytest.raises(ModelError, match="divide none of"):
        group_size(config)


def test_awq_is_refused_in_words() -> None:
    text = 'name = "x"\n[data]\nfile = "x"\n[export]\nalso = ["awq"]\n'
    with pytest.raises(SettingsError, match=r"x:5: export\.also.* gptq is as small"):
        parse(text, "x")


def test_without_its_environment_it_is_missing(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESIDENCY_HOME", str(tmp_path))
    merged = exported.folder("merged")
    reference = read_fingerprint(merged / "fingerprint.json")
    tokenizer = load_tokenizer(merged / "model")
    with pytest.raises(MissingError) as caught:
        make(merged / "model", tmp_path / "model", tokenizer, conversations(), reference)
    assert caught.value.hint == "install it with: residency setup gptq"


@pytest.mark.slow
@pytest.mark.skipif(not GPTQ.ready, reason="not installed: residency setup gptq")
def test_a_gptq_build_is_small_and_says_what_the_merged_model_says(
    specialist: Specialist, tmp_path: Path
) -> None:
    made = export(tmp_path, specialist, ExportSettings(levels=[], also=["gptq"]))
    folder = made.folder("gptq")
    config = json.loads((folder / "model" / "config.json").read_text())
    weights = config["quantization_config"]["config_groups"]["group_0"]["weights"]
    assert (weights["num_bits"], weights["group_size"]) == (4, 128)
    assert json.loads((folder / "build.json").read_text())["format"] == "gptq"
    reference, taken = (
        read_fingerprint(made.folder(name) / "fingerprint.json") for name in ("merged", "gptq")
    )
    assert compare(reference, taken, step="gptq", tolerance=1.0) > 0
    if VLLM.ready and unsupported(folder / "model" / "config.json", hardware.read().flags):
        with pytest.raises(EngineLoadError, match="lacks AVX-512") as caught:
            asked(folder, specialist, tmp_path / "answers.jsonl")
        assert "llama.cpp" in caught.value.hint
    elif VLLM.ready:
        (found,) = asked(folder, specialist, tmp_path / "answers.jsonl")
        assert len(found.answers) == 4 and all(answer.tokens for answer in found.answers)
