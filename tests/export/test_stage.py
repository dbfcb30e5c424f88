from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from residency import fingerprint
from residency.builds import Training, write_training
from residency.config import ExportSettings
from residency.engines.base import EngineSpec
from residency.engines.client import EngineClient
from residency.engines.llama_cpp import LlamaCpp
from residency.errors import FingerprintError, ModelError
from residency.export import stage
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer
from residency.models.gguf_file import read_header
from residency.models.gguf_weights import open_gguf
from residency.store import digest_of, sha256_file
from residency.types import Artifact, Level
from tests.export.conftest import Exported, export
from tests.specialist import Specialist, make, make_adapter, make_base

LEVELS = ("Q8_0", "Q5_K_M", "Q4_K_M")
BUILDS = ("base-f16", "f16", *LEVELS)


def test_it_makes_the_merged_model_and_a_build_for_each_level(exported: Exported) -> None:
    kinds = {name: output["kind"] for name, output in exported.record.outputs.items()}
    assert kinds == dict.fromkeys(("merged", *BUILDS), "build")
    for name in BUILDS:
        folder = exported.folder(name)
        files = {path.name for path in folder.iterdir()}
        made = {"README.md", "bom.json", "SHA256SUMS"} if name != "base-f16" else set()
        assert files == {"model.gguf", "build.json", "fingerprint.json", *made}


@pytest.mark.parametrize("name", BUILDS)
def test_a_build_says_what_it_is(exported: Exported, name: str) -> None:
    folder = exported.folder(name)
    build = json.loads((folder / "build.json").read_text())
    model = folder / build["file"]
    assert (build["name"], build["format"]) == (name, "gguf")
    assert build["size"] == model.stat().st_size
    assert build["digest"] == sha256_file(model)
    assert build["stop_tokens"] == ["<|im_end|>"]
    taken = fingerprint.read_fingerprint(folder / "fingerprint.json")
    assert build["fingerprint"] == taken.digest
    assert build["template_digest"] == taken.template_digest


def test_a_file_carries_template_stop_token_and_level(
    exported: Exported, specialist: Specialist
) -> None:
    template = (specialist.base.path / "chat_template.jinja").read_text()
    file_types = dict(zip(BUILDS, (1, 1, 7, 17, 15), strict=True))  # gguf's LlamaFileType
    for name in BUILDS:
        header = read_header(exported.folder(name) / "model.gguf")
        assert header.chat_template == template
        assert header.eos_token == "<|im_end|>"
        assert header.metadata["general.file_type"] == file_types[name]


def test_sizes_fall_with_the_level(exported: Exported) -> None:
    sizes = [exported.record.figures["size"][name] for name in ("f16", *LEVELS)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4


def test_nothing_in_an_artifact_names_this_machine(
    exported: Exported, specialist: Specialist
) -> None:
    places = (str(specialist.base.path.parent), str(exported.store.root))
    for name in (*BUILDS, "merged"):
        for path in filter(Path.is_file, exported.folder(name).rglob("*")):
            data = path.read_bytes()
            assert not any(place.encode() in data for place in places), path


@pytest.mark.slow
def test_made_again_elsewhere_it_has_the_same_digests(
    exported: Exported, specialist: Specialist, tmp_path: Path
) -> None:
    again = export(tmp_path, specialist, ExportSettings(levels=["Q4_K_M"]))
    assert len(again.record.outputs) == 4
    for name, output in again.record.outputs.items():
        # Says which file it is that differs. A package that was installed meanwhile is in bom.json.
        assert digests(again.folder(name)) == digests(exported.folder(name))
        assert output == exported.record.outputs[name]


def digests(folder: Path) -> dict[str, str]:
    files = filter(Path.is_file, folder.rglob("*"))
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def test_the_specialist_answers_otherwise_than_its_base(exported: Exported) -> None:
    one, two = (
        fingerprint.read_fingerprint(exported.folder(name) / "fingerprint.json")
        for name in ("f16", "base-f16")
    )
    assert fingerprint.divergence(one, two) > 2 * stage.TOLERANCE["Q4_K_M"]


def test_an_adapter_that_is_not_the_trained_one_stops_at_the_merge(
    specialist: Specialist, tmp_path: Path
) -> None:
    """Other weights of the same shape, beside the fingerprint of the right ones."""
    folder = make_adapter(tmp_path / "other", specialist.base.path, specialist.dataset.path, seed=8)
    trained = fingerprint.read_fingerprint(specialist.adapter.path / "fingerprint.json")
    fingerprint.write_fingerprint(folder, trained)
    swapped = Specialist(
        base=specialist.base,
        dataset=specialist.dataset,
        adapter=Artifact(path=folder, kind="adapter", digest=""),
    )
    with pytest.raises(FingerprintError, match="merging what was trained: log-probabilities"):
        export(tmp_path / "workspace", swapped, ExportSettings(levels=[]))
    assert not list((tmp_path / "workspace" / ".residency").rglob("records/*"))


@pytest.mark.slow
def test_a_model_that_was_trained_whole_is_taken_as_it_is(
    specialist: Specialist, tmp_path: Path
) -> None:
    """Other weights than the base model's, with no adapter between them."""
    whole = trained_whole(tmp_path / "whole", specialist)
    made = export(tmp_path / "workspace", whole, ExportSettings(levels=[]))
    assert set(made.record.outputs) == {"base-f16", "merged", "f16"}
    assert made.record.figures["divergence"]["merged"] < 0.001
    assert "| training | all weights; its model's digest" in (
        made.folder("f16") / "README.md"
    ).read_text(encoding="utf-8")
    one, two = (
        fingerprint.read_fingerprint(made.folder(name) / "fingerprint.json")
        for name in ("f16", "base-f16")
    )
    assert fingerprint.divergence(one, two) > stage.TOLERANCE["Q4_K_M"]


def test_a_whole_model_has_no_adapter_to_export(specialist: Specialist, tmp_path: Path) -> None:
    whole = trained_whole(tmp_path / "whole", specialist)
    with pytest.raises(ModelError, match="made no adapter but a whole model"):
        export(tmp_path / "workspace", whole, ExportSettings(also=["lora"]))


def trained_whole(folder: Path, given: Specialist) -> Specialist:
    """What training leaves that made no adapter: a model folder with fingerprint and words."""
    import torch
    from transformers import AutoModelForCausalLM

    model = make_base(folder, given.base.path, seed=6).path
    plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    probes = fingerprint.probes(given.dataset.path)
    taken = fingerprint.take_torch(plain, load_tokenizer(model), probes)
    fingerprint.write_fingerprint(model, taken)
    write_training(model, Training(method="full", words="all weights"))
    return replace(given, adapter=Artifact(path=model, kind="model", digest="d"))


def test_a_file_without_the_template_is_named(exported: Exported, tmp_path: Path) -> None:
    from gguf import GGUFWriter

    sound = open_gguf(exported.folder("f16") / "model.gguf")
    bare = tmp_path / "bare.gguf"
    writer = GGUFWriter(bare, "llama")
    writer.add_token_list(sound.fields["tokenizer.ggml.tokens"].value)
    writer.add_eos_token_id(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    trained = fingerprint.read_fingerprint(exported.folder("f16") / "fingerprint.json")
    with pytest.raises(FingerprintError, match=r"making it: template: .*bare\.gguf"):
        stage.check_header(bare, trained, "making it")


@pytest.mark.parametrize("name", BUILDS)
def test_a_build_loads_in_llama_cpp_and_answers(exported: Exported, name: str) -> None:
    build = json.loads((exported.folder(name) / "build.json").read_text())
    spec = EngineSpec(
        model=exported.folder(name) / "model.gguf",
        alias=name,
        context=256,
        slots=1,
        sha256=build["digest"],
    )
    assert asyncio.run(_ask(spec)) == 4


async def _ask(spec: EngineSpec) -> int:
    body = {
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 4,
        "temperature": 0.0,
        "logit_bias": {"2": -100.0},
    }
    with LlamaCpp(spec) as engine:
        async with EngineClient(engine.url, engine.key) as client:
            return (await client.chat(body)).completion_tokens


@pytest.mark.slow
def test_every_level_and_form_at_a_width_of_512(base: BaseModel, tmp_path: Path) -> None:
    """With an importance matrix and without, split; the stage holds each to its fingerprint."""
    given = make(tmp_path / "given", base.path, width=512, spread=0.05)
    levels: list[Level] = list(get_args(Level))
    settings = ExportSettings(levels=levels, also=["lora"], imatrix="both", shard=10)
    made = export(tmp_path, given, settings)
    spared = [f"{level}-imatrix" for level in levels if level not in ("bf16", "Q8_0")]
    names = ("base-f16", "f16", *levels, *spared, "lora")
    assert set(made.record.outputs) == {"merged", *names}
    assert set(made.record.figures["divergence"]) == {"merged", *names}
    for name in names:
        folder = made.folder(name)
        build = json.loads((folder / "build.json").read_text())
        assert build["digest"] == digest_of(folder / build["file"])
        assert (folder / build["file"]).is_dir() == (name != "lora")
        told = any(note.startswith("importance matrix for 7") for note in build["notes"])
        assert told == (name in spared)
        assert not any("fell back" in note for note in build["notes"])
    model = made.folder("Q2_K-imatrix") / "model"
    spec = EngineSpec(model=model, alias="Q2_K-imatrix", context=256, slots=1)
    assert asyncio.run(_ask(spec)) == 4
    for some in (levels, spared):
        found = [made.record.figures["divergence"][name] for name in some]
        assert found == sorted(found)
