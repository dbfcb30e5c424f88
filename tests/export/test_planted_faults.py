"""A fault planted in each step is caught in that step, and named: real files, a small model."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from residency import fingerprint
from residency.config import ExportSettings
from residency.engines.base import EngineSpec
from residency.engines.llama_cpp import LlamaCpp
from residency.errors import FingerprintError
from residency.export.convert import convert
from residency.export.merge import merge
from residency.export.quantize import quantize
from residency.export.stage import TOLERANCE, check_header
from residency.models.base import BaseModel
from residency.models.gguf_weights import open_gguf
from residency.store import digest_tree, sha256_file
from residency.types import Level, to_json
from tests.export.conftest import Exported, asked, export
from tests.planted import CHATML_WITHOUT_SYSTEM, rewritten, zeroed
from tests.specialist import Specialist

LEVEL: Level = "Q4_K_M"
Plant = Callable[[Path, Path, Specialist], Path]
"""A faulty f16 GGUF made from a sound one, in a folder, with what the specialist is made of."""


def rope(sound: Path, folder: Path, _: Specialist) -> Path:
    return rewritten(sound, folder / "rope.gguf", lambda w: w.add_rope_freq_base(40.0))


def end_token(sound: Path, folder: Path, _: Specialist) -> Path:
    return rewritten(sound, folder / "endless.gguf", lambda w: w.add_eos_token_id(0))


def template(sound: Path, folder: Path, _: Specialist) -> Path:
    return rewritten(
        sound, folder / "other.gguf", lambda w: w.add_chat_template(CHATML_WITHOUT_SYSTEM)
    )


def twice(_: Path, folder: Path, given: Specialist) -> Path:
    merge(given.base.path, given.adapter.path, folder / "once")
    merge(folder / "once", given.adapter.path, folder / "twice")
    convert(folder / "twice", folder / "twice.gguf", "twice")
    return folder / "twice.gguf"


def zero(sound: Path, folder: Path, _: Specialist) -> Path:
    return zeroed(sound, folder / "zero.gguf", "blk.0.ffn_down.weight")


FAULTS = {
    rope: "log-probabilities",
    end_token: "stop tokens",
    template: "template",
    twice: "log-probabilities",
    zero: "log-probabilities",
}


@pytest.mark.parametrize(
    ("plant", "what"),
    [
        pytest.param(plant, what, marks=pytest.mark.slow if plant is twice else ())
        for plant, what in FAULTS.items()
    ],
)
def test_in_a_file_that_is_quantized(
    exported: Exported, specialist: Specialist, tmp_path: Path, plant: Plant, what: str
) -> None:
    """With the wide tolerance of four bits, by the export stage's own checks."""
    sound = exported.folder("f16") / "model.gguf"
    made = tmp_path / "model.gguf"
    quantize(open_gguf(plant(sound, tmp_path, specialist)), made, LEVEL)
    reference = fingerprint.read_fingerprint(exported.folder("merged") / "fingerprint.json")
    with pytest.raises(FingerprintError, match=f"making {LEVEL}: {what}"):
        check_header(made, reference, f"making {LEVEL}")
        taken = asyncio.run(_taken(made, specialist))
        tolerance = TOLERANCE[LEVEL]
        fingerprint.compare(reference, taken, step=f"making {LEVEL}", tolerance=tolerance)


async def _taken(model: Path, given: Specialist) -> fingerprint.Fingerprint:
    with LlamaCpp(EngineSpec(model=model, alias="planted", context=512, slots=1)) as engine:
        async with engine.client(60) as client:
            return await fingerprint.take_engine(client, fingerprint.probes(given.dataset.path))


def _settings_changed(folder: Path, file: str, change: Callable[[dict], None]) -> None:
    values = json.loads((folder / file).read_text(encoding="utf-8"))
    change(values)
    (folder / file).write_text(json.dumps(values), encoding="utf-8")


def rope_of_base(base: Path, _: Specialist) -> None:
    def change(values: dict) -> None:
        values["rope_parameters"]["rope_theta"] = 40.0

    _settings_changed(base, "config.json", change)


def template_of_base(base: Path, _: Specialist) -> None:
    (base / "chat_template.jinja").write_text(CHATML_WITHOUT_SYSTEM, encoding="utf-8")


def merged_already(base: Path, given: Specialist) -> None:
    shutil.rmtree(base)
    merge(given.base.path, given.adapter.path, base)


def zero_in_base(base: Path, _: Specialist) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(base / "model.safetensors")
    weights["model.layers.0.mlp.down_proj.weight"].zero_()
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("plant", "what"),
    [
        pytest.param(rope_of_base, "log-probabilities", marks=pytest.mark.slow),
        (template_of_base, "template"),
        pytest.param(merged_already, "log-probabilities", marks=pytest.mark.slow),
        (zero_in_base, "log-probabilities"),
    ],
)
def test_under_the_adapter(
    specialist: Specialist,
    tmp_path: Path,
    plant: Callable[[Path, Specialist], None],
    what: str,
) -> None:
    """What the adapter is merged into is not what it was trained on."""
    base = tmp_path / "base"
    shutil.copytree(specialist.base.path, base)
    plant(base, specialist)
    faulty = Specialist(
        base=BaseModel(
            name="small", path=base, digest=digest_tree(base), license="none", source="a test"
        ),
        dataset=specialist.dataset,
        adapter=specialist.adapter,
    )
    with pytest.raises(FingerprintError, match=f"merging what was trained: {what}"):
        export(tmp_path / "workspace", faulty, ExportSettings(levels=[]))


@pytest.mark.slow
@pytest.mark.parametrize(("plant", "what"), [(rope, "log-probabilities"), (template, "template")])
def test_in_a_build_that_the_gate_asks(
    exported: Exported, specialist: Specialist, tmp_path: Path, plant: Plant, what: str
) -> None:
    """After it was made, with sums that agree."""
    folder = tmp_path / "build"
    shutil.copytree(exported.folder("Q8_0"), folder)
    faulty = plant(exported.folder("f16") / "model.gguf", tmp_path, specialist)
    faulty.replace(folder / "model.gguf")
    values = json.loads((folder / "build.json").read_text(encoding="utf-8"))
    values["digest"] = sha256_file(folder / "model.gguf")
    (folder / "build.json").write_text(to_json(values), encoding="utf-8")
    kept = tmp_path / "answers.jsonl"
    with pytest.raises(FingerprintError, match=f"serving Q8_0: {what}"):
        asked(folder, specialist, kept)
    assert not kept.exists()
