"""How large a model's weights are in each form that they are kept in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import get_args

from residency.models.shape import Shape
from residency.models.tensor_types import Mix, Tensor, choose_types, uses_more_bits
from residency.types import Level

GGUF = ("f16", *get_args(Level))
"""What llama.cpp loads, largest first."""

# NF4 with double quantization: 4 bits, an 8-bit scale for each 64 weights, and a 32-bit one for
# each 256 of these (Dettmers et al. 2023, section 3).
_NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)
# ONNX Runtime's products with packed weights: for each 32 of them a scale in float32 and a zero
# point as wide as they are (onnxruntime-genai 0.18's builder, which makes our `onnx-int4`).
_ONNX_BITS = {4: 4 + (32 + 4) / 32, 8: 8 + (32 + 8) / 32}


def size(shape: Shape, form: str) -> int:
    """Bytes of the weights in one of `GGUF`, in `onnx-int4` or in `nf4`."""
    return round(shape.weights * bits_a_weight(shape, form) / 8)


def sizes(shape: Shape) -> dict[str, int]:
    """Bytes of the weights in every form."""
    return {form: size(shape, form) for form in (*GGUF, "onnx-int4", "nf4")}


def bits_a_weight(shape: Shape, form: str) -> float:
    """Bits a weight, over the types that this model's tensors get in `form`.

    A shape that stands for a size has the tensors of another model, so their mean counts.
    """
    count = sum(math.prod(tensor.shape) for tensor in shape.tensors)
    return sum(_tensor_bits(shape, form).values()) / count


def linear(shape: Shape) -> list[Tensor]:
    """The linear layers of the blocks, which is what an adapter or NF4 takes."""
    return [t for t in shape.tensors if t.name.startswith("blk.") and len(t.shape) == 2]


def _tensor_bits(shape: Shape, form: str) -> Mapping[str, float]:
    if form == "nf4":
        packed = {tensor.name for tensor in linear(shape)}
        return _by_tensor(shape, lambda t: _NF4_BITS if t.name in packed else 16)
    if form == "onnx-int4":
        return _by_tensor(shape, lambda t: _onnx_bits(shape, t))
    types = ggml_types(shape, form)
    return _by_tensor(shape, lambda t: ggml_bits(types[t.name]))


def _by_tensor(shape: Shape, bits: Callable[[Tensor], float]) -> dict[str, float]:
    return {tensor.name: math.prod(tensor.shape) * bits(tensor) for tensor in shape.tensors}


def _onnx_bits(shape: Shape, tensor: Tensor) -> float:
    """Eight bits for the last product and where llama.cpp spends more, four for the others; norms,
    and embeddings of their own, stay in float32."""
    if tensor.name == "output.weight" or (shape.tied and tensor.name == "token_embd.weight"):
        return _ONNX_BITS[8]
    if not tensor.name.startswith("blk.") or len(tensor.shape) == 1:
        return 32
    spared = any(part in tensor.name for part in ("attn_q", "attn_k", "attn_v", "ffn_down"))
    more = spared and uses_more_bits(tensor.layer, shape.layers)
    return _ONNX_BITS[8 if more else 4]


def ggml_types(shape: Shape, form: str) -> dict[str, str]:
    """The type of each tensor in one of `GGUF`, as the export writes it."""
    plain = [
        Tensor(name=t.name, shape=t.shape, type="F32" if len(t.shape) == 1 else "F16")
        for t in shape.tensors
    ]
    for level in get_args(Level):
        if form == level:
            mix = Mix(level=level, layers=shape.layers, gqa=shape.heads // shape.kv_heads)
            return {name: choice.type for name, choice in choose_types(plain, mix).items()}
    return {tensor.name: tensor.type for tensor in plain}


def ggml_bits(name: str) -> float:
    """Bits a weight of one of ggml's types."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    values, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    return 8 * int(size) / int(values)
