from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from residency.config import EngineSettings, ServedModel
from residency.engines.hosted import HostedEngine
from residency.engines.llama_cpp import LlamaCpp
from residency.engines.onnx import Onnx
from residency.engines.vllm import Vllm
from residency.errors import InputError
from residency.serve.launch import launcher
from residency.store import Store
from residency.types import Build, Release, to_json
from tests.serve.releases import release

GGUF = release().build
MERGED = dataclasses.replace(GGUF, name="merged", format="safetensors", file="model", digest="a")
ONNX = dataclasses.replace(GGUF, name="onnx-int4", format="onnx", file="model", digest="b")


def exported(store: Store, *builds: Build) -> dict[str, str]:
    """What an export with these builds leaves: the digests of its outputs."""
    draft = store.open("export", "key", inputs={}, settings={}, seed=0)
    for build in builds:
        folder = draft.path / build.name
        (folder / build.file).mkdir(parents=True)
        (folder / "build.json").write_text(to_json(build))
    outputs = {build.name: (draft.path / build.name, "build") for build in builds}
    record = draft.finish(outputs, {})
    return {name: output["digest"] for name, output in record.outputs.items()}


def launched(store: Store, engine: str, given: Release) -> HostedEngine:
    served = ServedModel.model_validate({"engine": engine})
    made = launcher(store, EngineSettings(threads=1))(served, given, 3)
    assert isinstance(made, HostedEngine)
    assert (made.spec.alias, made.spec.context, made.spec.slots) == (given.model, given.context, 3)
    return made


def test_each_engine_gets_the_form_that_it_loads(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digests = exported(store, GGUF, MERGED, ONNX)
    given = release(artifact=digests["Q8_0"])
    objects = store.root / "objects"
    for engine, kind, build in (
        ("llama.cpp", LlamaCpp, GGUF),
        ("vllm", Vllm, MERGED),
        ("onnx", Onnx, ONNX),
    ):
        made = launched(store, engine, given)
        assert type(made) is kind
        assert made.spec.model == objects / digests[build.name] / build.file
        assert made.spec.sha256 == build.digest


def test_a_release_for_onnx_runtime_runs_there_whatever_the_settings_say(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digests = exported(store, ONNX)
    made = launched(store, "llama.cpp", release(artifact=digests["onnx-int4"], build=ONNX))
    assert isinstance(made, Onnx)
    assert made.spec.sha256 == ONNX.digest


def test_without_a_build_for_onnx_runtime_the_setting_that_makes_one_is_named(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    digests = exported(store, GGUF)
    with pytest.raises(InputError, match="no onnx-int4 or onnx-fp32 was made") as caught:
        launched(store, "onnx", release(artifact=digests["Q8_0"]))
    assert r"[export] also" in caught.value.hint
