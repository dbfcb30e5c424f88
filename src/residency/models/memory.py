"""How much memory a model needs, to answer and to be trained.

Weights are exact where the tensors are known; the rest is worked out from the shape, and the
constants come from measurements of llama.cpp on a CPU (bench/fit.py, docs/log.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from residency.config import Level
from residency.models.shape import Shape
from residency.models.tensor_types import Mix, Tensor, choose_types

Basis = Literal["measured", "derived", "estimated"]
Method = Literal["lora", "qlora", "full"]
Precision = Literal["float32", "bfloat16"]

LEVELS = ("f16", "Q8_0", "Q5_K_M", "Q4_K_M")
_F16 = 2
_MICRO_BATCH = 512  # tokens that llama.cpp computes at once (its n_ubatch)
# A llama.cpp host process: the program, and its vocabulary's tables for each token.
_ENGINE, _ENGINE_TOKEN = 42_000_000, 500
_TRAINER = 600_000_000  # a process with torch, transformers and peft loaded
# NF4 with double quantization: 4 bits, and 0.127 for the scales (Dettmers et al. 2023, section 3).
_NF4_BITS = 4.127


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """`size` in bytes; `how` says in words where the figure is from."""

    name: str
    size: int
    basis: Basis
    how: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """What a model needs, in bytes. `cache` is the keys and values of a context, and nought in
    training; `compute` is all that is neither weights nor cache."""

    parts: tuple[Part, ...]

    @property
    def weights(self) -> int:
        return self._sum("weights")

    @property
    def cache(self) -> int:
        return self._sum("cache")

    @property
    def total(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def compute(self) -> int:
        return self.total - self.weights - self.cache

    def _sum(self, name: str) -> int:
        return sum(part.size for part in self.parts if part.name == name)


def need(shape: Shape, *, level: str, context: int, slots: int) -> Need:
    """What llama.cpp needs to answer `slots` requests at once, each of `context` tokens.

    `level` is one of `LEVELS`, or empty for a GGUF file as it is.
    """
    whole = context * slots
    # Mask of attention, hidden states and the feed-forward's two halves, all of one micro-batch.
    states = 4 * (5 * shape.width + 2 * shape.hidden)
    parts = (
        _weights(shape, level),
        Part(
            name="cache",
            size=cache_a_token(shape) * whole - _outside_window(shape, context) * slots,
            basis="derived",
            how=f"{cache_a_token(shape) / 1024:.1f} KiB a token, {slots} x {context} tokens, f16",
        ),
        Part(
            name="compute buffers",
            size=_MICRO_BATCH * (states + _F16 * whole),
            basis="estimated",
            how=f"{_MICRO_BATCH} tokens at once, flash attention",
        ),
        Part(
            name="process",
            size=_ENGINE + _ENGINE_TOKEN * shape.vocabulary,
            basis="estimated",
            how=f"the engine, and a vocabulary of {shape.vocabulary:,} tokens",
        ),
    )
    return Need(parts=parts)


def cache_a_token(shape: Shape) -> int:
    """Bytes of keys and values of one token in f16, as if every layer saw the whole context.

    Grouped queries share keys and values, so it is the heads of these that count.
    """
    return shape.layers * shape.kv_heads * shape.head_dim * 2 * _F16


def _outside_window(shape: Shape, context: int) -> int:
    """Bytes that layers with a sliding window save: they keep a window and a micro-batch."""
    kept = min(context, shape.window + _MICRO_BATCH) if shape.window else context
    return (context - kept) * shape.windowed * shape.kv_heads * shape.head_dim * 2 * _F16


def _weights(shape: Shape, level: str) -> Part:
    if not level and shape.file_size:
        return Part(name="weights", size=shape.file_size, basis="measured", how="the file's size")
    bits = bits_a_weight(shape, level or "Q4_K_M")
    size = round(shape.weights * bits / 8)
    how = f"{shape.weights / 1e6:,.0f}M weights at {bits:.2f} bits ({level or 'Q4_K_M'})"
    return Part(name="weights", size=size, basis=shape.basis, how=how)


def bits_a_weight(shape: Shape, level: str) -> float:
    """Bits a weight at `level`, over the types that the export gives this model's tensors."""
    count = sum(math.prod(tensor.shape) for tensor in shape.tensors)
    return 8 * sum(_sizes(shape, level)) / count


def _sizes(shape: Shape, level: str) -> Iterable[int]:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    plain = [
        Tensor(name=t.name, shape=t.shape, type="F32" if len(t.shape) == 1 else "F16")
        for t in shape.tensors
    ]
    types = {t.name: t.type for t in plain}
    for known in get_args(Level):
        if level == known:
            mix = Mix(level=known, layers=shape.layers, gqa=shape.heads // shape.kv_heads)
            types = {name: choice.type for name, choice in choose_types(plain, mix).items()}
    for tensor in plain:
        block, width = GGML_QUANT_SIZES[GGMLQuantizationType[types[tensor.name]]]
        yield math.prod(tensor.shape) // block * width


def training(
    shape: Shape, *, method: Method, rank: int, tokens: int, precision: Precision, length: int = 512
) -> Need:
    """What a step of AdamW over `tokens` tokens, in rows of `length`, needs.

    `rank` is LoRA's, on all linear layers. QLoRA is taken with gradient checkpointing, as peft
    prepares it; the others without. Attention is taken to keep its scores, as torch does on a CPU.
    """
    unit = 4 if precision == "float32" else 2
    taught = shape.weights if method == "full" else rank * _rows_and_columns(shape)
    learnt = f"{taught / 1e6:,.1f}M weights are trained"
    parts = [_training_weights(shape, method, precision)]
    if method != "full":
        parts.append(Part(name="adapter", size=taught * unit, basis="derived", how=learnt))
    parts += [
        Part(name="gradients", size=taught * unit, basis="derived", how=learnt),
        Part(
            name="optimizer",
            size=2 * taught * unit,
            basis="derived",
            how="AdamW keeps two values for each trained weight",
        ),
        _activations(shape, tokens, length, unit, checkpointed=method == "qlora"),
        Part(
            name="process", size=_TRAINER, basis="estimated", how="Python, torch and transformers"
        ),
    ]
    return Need(parts=tuple(parts))


def _training_weights(shape: Shape, method: Method, precision: Precision) -> Part:
    if method != "qlora":
        size = shape.weights * (4 if precision == "float32" else 2)
        how = f"{shape.weights / 1e6:,.0f}M weights in {precision}"
        return Part(name="weights", size=size, basis=shape.basis, how=how)
    linear = sum(math.prod(t.shape) for t in _linear(shape))
    share = linear / sum(math.prod(t.shape) for t in shape.tensors)
    size = round(shape.weights * (share * _NF4_BITS / 8 + (1 - share) * 2))
    how = "NF4 with double quantization, embeddings in 16 bits"
    return Part(name="weights", size=size, basis=shape.basis, how=how)


def _activations(shape: Shape, tokens: int, length: int, unit: int, *, checkpointed: bool) -> Part:
    """What the forward pass keeps for the backward one.

    A layer keeps about eight hidden states (norms, queries, attention, residuals), its keys and
    values, four of the feed-forward's width, and four times the scores of attention (measured on
    SmolLM2 in float32, docs/log.md); the loss keeps the logits twice in float32.
    With checkpointing each layer keeps its input alone, and one layer at a time is whole.
    """
    keys = 2 * shape.kv_heads * shape.head_dim
    scores = shape.heads * min(length, tokens)
    layer = tokens * unit * (8 * shape.width + 4 * (shape.hidden + scores) + keys)
    inputs = tokens * unit * shape.width * shape.layers
    logits = tokens * shape.vocabulary * 4 * 2
    kept = inputs + layer if checkpointed else layer * shape.layers
    how = f"{tokens} tokens a step, rows of {length}" + (
        ", gradient checkpointing" if checkpointed else ""
    )
    return Part(name="activations", size=kept + logits, basis="estimated", how=how)


def _linear(shape: Shape) -> list[Tensor]:
    return [t for t in shape.tensors if t.name.startswith("blk.") and len(t.shape) == 2]


def _rows_and_columns(shape: Shape) -> int:
    """Rows and columns of all linear layers: LoRA adds `rank` weights for each."""
    return sum(sum(t.shape) for t in _linear(shape))
