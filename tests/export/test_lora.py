from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from residency import fingerprint
from residency.engines.base import EngineSpec
from residency.engines.client import EngineClient
from residency.engines.llama_cpp import LlamaCpp
from residency.errors import ModelError
from residency.export.lora import write_lora
from residency.models.gguf_file import read_header
from tests.export.conftest import Exported
from tests.specialist import Specialist

WEIGHTS = "adapter_model.safetensors"
BODY = {
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 6,
    "temperature": 0.0,
    "logit_bias": {"2": -100.0},
}


def test_over_the_base_it_is_the_specialist_and_comes_off_for_a_request(
    specialist: Specialist, exported: Exported, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter.gguf"
    write_lora(specialist.base.path, specialist.adapter.path, adapter, "small")
    assert read_header(adapter).metadata["adapter.lora.alpha"] == 8
    base = exported.folder("base-f16") / "model.gguf"
    plain, _ = asyncio.run(_ask(EngineSpec(model=base, alias="plain"), specialist, [{}]))
    merged, reference = asyncio.run(
        _ask(EngineSpec(model=exported.folder("f16") / "model.gguf", alias="f16"), specialist, [{}])
    )
    off, on = ({"lora": [{"id": 0, "scale": scale}]} for scale in (0.0, 1.0))
    spec = EngineSpec(model=base, alias="both", lora=(adapter,))
    _, taken = asyncio.run(_ask(spec, specialist, []))
    answers, _ = asyncio.run(_ask(spec, specialist, [{}, off, on]))
    assert answers == [*merged, *plain, *merged]
    assert merged != plain
    assert fingerprint.divergence(reference, taken) < 0.001


async def _ask(
    spec: EngineSpec, given: Specialist, extras: list[dict[str, Any]]
) -> tuple[list[str], fingerprint.Fingerprint]:
    with LlamaCpp(spec) as engine:
        async with EngineClient(engine.url, engine.key) as client:
            answers = [(await client.chat(BODY | extra)).text for extra in extras]
            probes = fingerprint.probes(given.dataset.path)
            return answers, await fingerprint.take_engine(client, probes)


def test_an_adapter_of_embeddings_is_refused(specialist: Specialist, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "adapter"
    shutil.copytree(specialist.adapter.path, folder)
    weights = load_file(folder / "adapter_model.safetensors")
    some = next(iter(weights.values()))
    weights["base_model.model.model.embed_tokens.lora_embedding_A"] = some.clone()
    save_file(weights, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="embedding_A is no factor of a linear layer"):
        write_lora(specialist.base.path, folder, tmp_path / "adapter.gguf", "small")


@pytest.mark.slow
def test_rslora_divides_by_the_root_of_the_rank(specialist: Specialist, tmp_path: Path) -> None:
    folder = configured(tmp_path, specialist, use_rslora=True)
    write_lora(specialist.base.path, folder, tmp_path / "adapter.gguf", "small")
    # llama.cpp divides alpha by the rank, which is 4.
    assert read_header(tmp_path / "adapter.gguf").metadata["adapter.lora.alpha"] == 8 * 2


def test_dora_is_refused(specialist: Specialist, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = configured(tmp_path, specialist, use_dora=True)
    weights = load_file(folder / "adapter_model.safetensors")
    name = next(name for name in weights if name.endswith("lora_B.weight"))
    magnitude = name.replace("lora_B.weight", "lora_magnitude_vector")
    save_file({**weights, magnitude: weights[name][:, 0].contiguous()}, folder / WEIGHTS)
    with pytest.raises(ModelError, match="DoRA scales the weights"):
        write_lora(specialist.base.path, folder, tmp_path / "adapter.gguf", "small")


def configured(place: Path, given: Specialist, **changes: object) -> Path:
    """A copy of the adapter, with another configuration."""
    folder = place / "adapter"
    shutil.copytree(given.adapter.path, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder
