"""An adapter as a GGUF of its own: llama.cpp lays it over the base model, and can take it off."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

from residency.errors import ModelError
from residency.export.convert import convert
from residency.models.folder import COPIED
from residency.models.gguf_file import tensor_names
from residency.models.gguf_weights import open_gguf


def write_lora(base: Path, adapter: Path, target: Path, name: str) -> None:
    """Write a peft adapter of the model in the folder `base` to the GGUF file `target`.

    Raises `ModelError` where it adapts what is no linear layer, or one that llama.cpp does not
    know.
    """
    from gguf import GGUFWriter

    down, up = _factors(adapter)
    alpha = _alpha(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        rearranged = Path(folder) / "up.gguf"
        _convert_up(base, up, Path(folder), rearranged, name)
        source = open_gguf(rearranged)
        architecture = source.value("general.architecture")
        names = tensor_names(architecture, source.value(f"{architecture}.block_count"))
        by_tensor = {f"{names(module)}.weight": a for module, a in down.items()}
        writer = GGUFWriter(target, architecture)
        writer.add_type("adapter")
        writer.add_name(name)
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", alpha)
        tensors = {t.name: t.data for t in source.tensors}
        if lost := by_tensor.keys() - tensors.keys():
            raise _error(adapter, f"llama.cpp knows no tensor {min(lost)}")
        for tensor, a in by_tensor.items():
            writer.add_tensor(f"{tensor}.lora_a", a.numpy())
            writer.add_tensor(f"{tensor}.lora_b", tensors[tensor])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _alpha(config: dict[str, Any]) -> float:
    """Alpha as llama.cpp takes it, which divides it by the rank; rsLoRA by the root of the rank."""
    alpha, rank = float(config["lora_alpha"]), float(config["r"])
    return alpha * math.sqrt(rank) if config.get("use_rslora") else alpha


def _factors(adapter: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The factors A (rank x in) and B (out x rank), whose product is added, by module."""
    from safetensors.torch import load_file

    halves: dict[str, dict[str, Any]] = {"A": {}, "B": {}}
    for key, value in load_file(adapter / "adapter_model.safetensors").items():
        module, _, half = key.removeprefix("base_model.model.").rpartition(".lora_")
        if half.startswith("magnitude_vector"):
            raise _error(adapter, "DoRA scales the weights, which no adapter of llama.cpp can")
        if half not in ("A.weight", "B.weight"):
            raise _error(adapter, f"{key} is no factor of a linear layer")
        halves[half[0]][module] = value.float().contiguous()
    return halves["A"], halves["B"]


def _convert_up(base: Path, up: dict[str, Any], folder: Path, target: Path, name: str) -> None:
    """Have llama.cpp's converter do to each B what it does to the weight.

    It reorders rows of some weights, and B has the same rows: so it is given a model whose weights
    are the B. That spares a copy of its rules for each architecture.
    """
    from safetensors.torch import save_file

    for file in (*COPIED, "config.json"):
        if (base / file).exists():
            shutil.copyfile(base / file, folder / file)
    save_file({f"{module}.weight": b for module, b in up.items()}, folder / "model.safetensors")
    convert(folder, target, f"{name} adapter", "f32")


def _error(adapter: Path, what: str) -> ModelError:
    return ModelError(
        f"{adapter}: {what}", hint="leave out lora in export.also: the merged builds need none"
    )
