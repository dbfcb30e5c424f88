"""A model of Mistral-7B's shape with random weights: the true cost of memory and speed.

Its vocabulary is SmolLM2's, as no registry carries Mistral's weights. One block of random values is
repeated all over: what they are changes nothing of what they take.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from residency.config import DEFAULT_BASE
from residency.models import carried
from residency.models.base import resolve
from residency.models.folder import copy_tokenizer
from residency.models.formats import ggml_types
from residency.models.gguf_weights import copy_fields, open_gguf
from residency.models.shape import Shape, from_config
from residency.models.tensor_types import Tensor
from residency.progress import track
from residency.types import Level

CONFIG: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 14336,
    "vocab_size": 49152,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "hidden_act": "silu",
    "dtype": "bfloat16",
}
NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
SPREAD = 0.02
BLOCK = 1 << 20  # values that are random; the rest repeats them


def shape() -> Shape:
    return from_config(CONFIG, "Mistral-7B-shaped")


def write_gguf(path: Path, level: Level) -> Shape:
    """Write the model at `level`, tensor by tensor, and return its shape."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter

    model = shape()
    kinds = {n: GGMLQuantizationType[kind] for n, kind in ggml_types(model, level).items()}
    writer = GGUFWriter(path, "llama")
    sizes = {
        "block_count": model.layers,
        "embedding_length": model.width,
        "feed_forward_length": model.hidden,
        "context_length": CONFIG["max_position_embeddings"],
        "attention.head_count": model.heads,
        "attention.head_count_kv": model.kv_heads,
        "rope.dimension_count": model.head_dim,
        "vocab_size": model.vocabulary,
    }
    changed = {f"llama.{name}": value for name, value in sizes.items()}
    copy_fields(open_gguf(carried.gguf(DEFAULT_BASE)), writer, changed)
    for tensor in model.tensors:
        values, size = GGML_QUANT_SIZES[kinds[tensor.name]]
        dimensions = [int(n) for n in reversed(tensor.shape)]
        total = math.prod(dimensions) // values * size
        writer.add_tensor_info(
            tensor.name, dimensions, np.dtype(np.float32), total, kinds[tensor.name]
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    blocks: dict[Any, Any] = {}
    for tensor in track(model.tensors, "writing random weights"):
        kind = kinds[tensor.name]
        if kind not in blocks:
            blocks[kind] = _quantized(kind)
        values, size = GGML_QUANT_SIZES[kind]
        total = math.prod(tensor.shape) // values * size
        writer.write_tensor_data(np.resize(blocks[kind], total))
    writer.close()
    return model


def _quantized(kind: Any) -> Any:
    """Bytes of `BLOCK` random values as `kind`."""
    import libgguf

    values = np.random.default_rng(17).normal(0, SPREAD, (BLOCK // 4096, 4096)).astype(np.float32)
    if kind.name in ("F32", "F16"):
        values = values.astype(np.float32 if kind.name == "F32" else np.float16)
        return values.view(np.uint8).reshape(-1)
    return (
        np.ascontiguousarray(libgguf.quantize_rows(values, kind, None)).view(np.uint8).reshape(-1)
    )


def write_folder(folder: Path) -> None:
    """Write the model as a Hugging Face folder in bfloat16, a file for each layer."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    copy_tokenizer(resolve(DEFAULT_BASE).path, folder)
    torch.manual_seed(17)
    block = (torch.randn(BLOCK) * SPREAD).bfloat16()
    files: dict[int, dict[str, Any]] = {}
    for tensor in shape().tensors:
        files.setdefault(tensor.layer, {})[_name(tensor)] = tensor
    index: dict[str, str] = {}
    for layer, tensors in track(files.items(), "writing random weights", len(files)):
        file = f"model-{layer + 2:05}-of-{len(files):05}.safetensors"
        made = {name: _random(block, tensor) for name, tensor in tensors.items()}
        save_file(made, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(tensors, file)
    listed = json.dumps({"metadata": {}, "weight_map": index})
    (folder / "model.safetensors.index.json").write_text(listed, encoding="utf-8")


def _name(tensor: Tensor) -> str:
    """The tensor's name at the hub."""
    outside = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    part = tensor.name.removesuffix(".weight").rpartition(".")[2]
    if tensor.layer < 0:
        return f"{outside[part]}.weight"
    return f"model.layers.{tensor.layer}.{NAMES[part]}.weight"


def _random(block: Any, tensor: Tensor) -> Any:
    import torch

    if len(tensor.shape) == 1:
        return torch.ones(tensor.shape[0], dtype=torch.bfloat16)
    count = math.prod(tensor.shape)
    return block.repeat(-(-count // BLOCK))[:count].reshape(tuple(reversed(tensor.shape))).clone()
