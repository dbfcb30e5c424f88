from __future__ import annotations

import asyncio
import json
import math
import shutil
from pathlib import Path

import pytest

from residency import fingerprint
from residency.builds import read_build
from residency.config import ExportSettings
from residency.engines.base import EngineSpec
from residency.engines.onnx import Onnx
from residency.errors import EngineRejected, ModelError
from residency.export.onnx import make
from residency.store import digest_of
from tests.export.conftest import Exported, asked, export
from tests.specialist import Specialist

FORMS = ("onnx-fp32", "onnx-int4")


@pytest.fixture(scope="module")
def exported(specialist: Specialist, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    settings = ExportSettings(levels=[], also=list(FORMS))
    return export(tmp_path_factory.mktemp("onnx"), specialist, settings)


@pytest.mark.slow
def test_both_forms_are_held_to_the_fingerprint(exported: Exported) -> None:
    found = exported.record.figures["divergence"]
    assert found["onnx-fp32"] < 0.0001
    assert found["onnx-fp32"] < found["onnx-int4"] < 0.6


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_a_build_says_what_it_is(exported: Exported, name: str) -> None:
    folder = exported.folder(name)
    build = read_build(folder)
    assert (build.name, build.format, build.file) == (name, "onnx", "model")
    assert build.digest == digest_of(folder / "model")
    assert build.size == sum(file.stat().st_size for file in (folder / "model").iterdir())
    assert build.fingerprint == fingerprint.read_fingerprint(folder / "fingerprint.json").digest


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_the_gate_asks_it(
    exported: Exported, specialist: Specialist, tmp_path: Path, name: str
) -> None:
    (found,) = asked(exported.folder(name), specialist, tmp_path / "answers.jsonl")
    assert len(found.answers) == 4 and all(answer.tokens for answer in found.answers)


@pytest.mark.slow
def test_the_commit_of_a_users_repository_is_not_in_it(exported: Exported) -> None:
    """The builder asks git, in the folder that the environment lies in."""
    import onnx
    import onnxruntime_genai

    model = onnx.load(
        exported.folder("onnx-fp32") / "model" / "model.onnx", load_external_data=False
    )
    known = getattr(onnxruntime_genai, "__commit__", "")
    made_by = onnxruntime_genai.__version__ + (f"+{known[:7]}" if known else "")
    assert model.producer_version == made_by


@pytest.mark.slow
def test_four_bits_are_smaller(exported: Exported) -> None:
    size = exported.record.figures["size"]
    assert size["onnx-int4"] < size["onnx-fp32"] / 2.5


@pytest.mark.slow
def test_a_model_of_nan_is_said(specialist: Specialist, tmp_path: Path) -> None:
    """The engine starts, and the gate's first question shows it."""
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(specialist.base.path, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][:] = math.nan
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    target = tmp_path / "model"
    make(broken, target, "fp32")
    with (
        Onnx(EngineSpec(model=target, alias="broken", context=256, slots=1)) as engine,
        pytest.raises(EngineRejected, match="computes NaN"),
    ):
        asyncio.run(fingerprint_of(engine, specialist))


async def fingerprint_of(engine: Onnx, given: Specialist) -> fingerprint.Fingerprint:
    async with engine.client(120) as client:
        return await fingerprint.take_engine(client, fingerprint.probes(given.dataset.path))


def test_a_model_that_the_builder_does_not_know_is_refused_in_its_words(
    specialist: Specialist, tmp_path: Path
) -> None:
    odd = tmp_path / "odd"
    odd.mkdir()
    for file in specialist.base.path.iterdir():
        (odd / file.name).symlink_to(file)
    config = json.loads((odd / "config.json").read_text())
    (odd / "config.json").unlink()
    (odd / "config.json").write_text(
        json.dumps({**config, "architectures": ["BloomForCausalLM"], "model_type": "bloom"})
    )
    with pytest.raises(ModelError, match=r"builder cannot build this model: .*not"):
        make(odd, tmp_path / "target", "fp32")
