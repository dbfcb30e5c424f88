"""Which type each tensor of a quantized GGUF gets: llama.cpp's policy for eight of its levels.

Ported from llama.cpp, src/llama-quant.cpp (`tensor_allows_quantization`, `tensor_type_fallback`,
`llama_tensor_get_type_impl`), as it lies in the source of xllamacpp 2026.10.11549. Not ported: the
special cases of Falcon, of GLM-5 and of Llama 70B; their files are valid, only some tensors have
another type than llama.cpp would choose.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from residency.types import Level

# Where a row is no multiple of the block of 256 values, a type with blocks of 32 takes its place.
_FALLBACK = {
    "IQ4_XS": "IQ4_NL",
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}

_KEPT_NAMES = ("position_embd.weight", "token_types.weight")
_KEPT_PARTS = (
    *("_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel"),
    *("per_layer_model_proj", "ssm_conv1d", "shortconv.conv.weight", "attn_rel_b.weight"),
    *("indexer.k_proj.weight", "indexer.q_proj.weight", "time_mix_first.weight"),
    *(f"time_mix_{part}.weight" for part in ("w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1")),
    *(f"time_mix_{part}.weight" for part in ("a2", "g1", "g2", "decay_w1", "decay_w2")),
    *("time_mix_lerp_fused.weight", ".position_embd"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """A tensor of a GGUF: `shape` as GGUF has it, row length first; `type` is ggml's name."""

    name: str
    shape: tuple[int, ...]
    type: str

    @property
    def layer(self) -> int:
        """The block that it belongs to, or -1."""
        found = re.match(r"blk\.(\d+)\.", self.name)
        return int(found[1]) if found else -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The type for one tensor, and the type that its row length ruled out (empty if none)."""

    type: str
    fell_from: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """What decides beside the tensor itself.

    `layers` and `experts` are the model's, `gqa` is how many of its heads share one key; `imatrix`
    says whether there is an importance matrix.
    """

    level: Level
    layers: int
    experts: int = 0
    gqa: int = 1
    imatrix: bool = False

    @property
    def default(self) -> str:
        """The type of a tensor for which nothing speaks: Q4_K for Q4_K_M."""
        return self.level.removesuffix("_M").upper()


def choose_types(tensors: Sequence[Tensor], mix: Mix) -> dict[str, Choice]:
    """The type of every tensor in `mix`, by name.

    llama.cpp counts layers of attention values in order of layer and name; so do we.
    """
    ordered = sorted(tensors, key=lambda t: (t.layer, t.name))
    tied = all(t.name != "output.weight" for t in tensors)
    values = [t.name for t in ordered if _is_attention_value(t.name)]
    found = {}
    for tensor in tensors:
        if not _may_quantize(tensor):
            found[tensor.name] = Choice(type=tensor.type)
        elif mix.level == "bf16":
            found[tensor.name] = Choice(type=mix.default)
        elif tensor.name == "output.weight" or (tied and _is_embedding(tensor.name)):
            found[tensor.name] = _fit(tensor, _output_type(tensor, mix))
        elif tensor.name in values:
            index = values.index(tensor.name)
            found[tensor.name] = _fit(tensor, _value_type(mix, index, len(values)))
        else:
            found[tensor.name] = _fit(tensor, _other_type(tensor, mix))
    return found


def _may_quantize(tensor: Tensor) -> bool:
    used = [i for i, n in enumerate(tensor.shape) if n != 1]
    return (
        bool(used)
        and used[-1] >= 1
        and tensor.name.endswith("weight")
        and tensor.name not in _KEPT_NAMES
        and not any(part in tensor.name for part in _KEPT_PARTS)
    )


def _is_embedding(name: str) -> bool:
    return name in ("token_embd.weight", "per_layer_token_embd.weight")


def _is_attention_value(name: str) -> bool:
    return any(f"{part}.weight" in name for part in ("attn_v", "attn_qkv", "attn_kv_b"))


def uses_more_bits(index: int, count: int) -> bool:
    """Whether a layer is one that errors hurt most: the first and last eighth, and every third."""
    return index < count // 8 or index >= 7 * count // 8 or (index - count // 8) % 3 == 2


def _block(type_name: str) -> int:
    return 256 if type_name in _FALLBACK else 32


def _output_type(tensor: Tensor, mix: Mix) -> str:
    fits = tensor.shape[0] % _block(mix.default) == 0
    return "Q8_0" if mix.level == "Q8_0" or not fits else "Q6_K"


def _value_type(mix: Mix, index: int, count: int) -> str:
    shared = mix.gqa >= 4
    if mix.experts == 8:
        return "Q8_0"
    if mix.level in ("Q5_K_M", "Q4_K_M") and uses_more_bits(index, count):
        return "Q6_K"
    if mix.level == "Q3_K_M":
        return "Q5_K" if index < 2 else "Q4_K"
    if mix.level == "Q2_K":
        return "Q4_K" if shared else "Q3_K"
    return "Q5_K" if mix.level == "IQ4_XS" and shared else mix.default


def _other_type(tensor: Tensor, mix: Mix) -> str:
    if "attn_k.weight" in tensor.name and mix.experts == 8:
        return "Q8_0"
    if "attn_output.weight" in tensor.name:
        return _attention_output_type(mix)
    return _down_type(mix, tensor.layer) if "ffn_down" in tensor.name else mix.default


def _attention_output_type(mix: Mix) -> str:
    if mix.experts == 8:
        return "Q5_K" if mix.level in ("Q4_K_M", "Q3_K_M", "Q2_K", "IQ4_XS") else mix.default
    return {"Q3_K_M": "Q4_K", "Q2_K": "Q3_K"}.get(mix.level, mix.default)


def _down_type(mix: Mix, layer: int) -> str:
    if mix.level in ("Q5_K_M", "Q4_K_M") and uses_more_bits(layer, mix.layers):
        return "Q6_K"
    if mix.level == "Q3_K_M":
        return "Q5_K" if layer < mix.layers // 16 else "Q4_K"
    if mix.level == "IQ4_XS" and layer < mix.layers // 8 and not mix.imatrix:
        return "Q5_K"
    return "Q3_K" if mix.level == "Q2_K" else mix.default


def _fit(tensor: Tensor, wanted: str) -> Choice:
    row = tensor.shape[0]
    if row % _block(wanted) == 0:
        return Choice(type=wanted)
    fallback = _FALLBACK.get(wanted, wanted)
    return Choice(type=fallback if row % 32 == 0 else "F16", fell_from=wanted)
