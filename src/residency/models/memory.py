"""How much memory a model needs, to answer and to be trained.

Weights are exact where the tensors are known. What training keeps was read off torch, tensor by
tensor; the constants of processes come from measurements on a CPU (bench/fit.py, docs/guides).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from residency.models import formats
from residency.models.shape import Shape
from residency.models.tensor_types import Tensor

Basis = Literal["measured", "derived", "estimated"]
Method = Literal["lora", "qlora", "full"]
Precision = Literal["float32", "bfloat16"]

_F16, _FLOAT = 2, 4
_MICRO_BATCH = 512  # tokens that llama.cpp computes at once (its n_ubatch)
# Copies of its windows that llama.cpp's server takes while it reads a long prompt, to come back to
# when the next one differs (its context checkpoints).
_COPIES = 2
# A llama.cpp host process: the program, and its vocabulary's tables for each token.
_ENGINE, _ENGINE_TOKEN = 42_000_000, 500
# A process with torch, transformers and peft loaded, and what its libraries keep for products after
# the first step (less where each layer is unpacked anew); and a tokenizer's tables for each token
# (284 MB for Gemma 3's 262,144).
_TRAINER, _UNPACKING_TRAINER, _TRAINER_TOKEN = 750_000_000, 650_000_000, 1_080
ONE_SEQUENCE = 1024  # up to here the rows of a batch stand in one sequence (train/batch.py)
ANSWERS = 0.5  # of a row's tokens, where nobody has counted
# What glibc's heap adds to the layers' activations in holes that it doesn't fill again, by method
# and bytes of a value; with checkpointing training has none (hardware.compact_heap). Nor has the
# loss: blocks of over 32 MiB are mapped, and given back whole (malloc's M_MMAP_THRESHOLD).
_HOLES = {("full", 4): 0.3, ("lora", 4): 0.5, ("lora", 2): 0.2, ("qlora", 2): 0.3}


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

    `level` is one of `formats.GGUF`, or empty for a GGUF file as it is.
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
            name="checkpoints",
            size=_COPIES * slots * min(context, shape.window) * _windowed_token(shape),
            basis="derived",
            how=f"{_COPIES} copies of the windows for each prompt, up to 32 in a long talk",
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
    return (context - kept) * _windowed_token(shape)


def _windowed_token(shape: Shape) -> int:
    """Bytes of keys and values of one token in the layers with a sliding window."""
    return shape.windowed * shape.kv_heads * shape.head_dim * 2 * _F16


def _weights(shape: Shape, level: str) -> Part:
    if not level and shape.file_size:
        return Part(name="weights", size=shape.file_size, basis="measured", how="the file's size")
    form = level or "Q4_K_M"
    bits = formats.bits_a_weight(shape, form)
    how = f"{shape.weights / 1e6:,.0f}M weights at {bits:.2f} bits ({form})"
    return Part(name="weights", size=formats.size(shape, form), basis=shape.basis, how=how)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A step of training: `rows` of `length` tokens at once, `accumulation` times.

    `rank` is LoRA's, on all linear layers; `learnt` is the share of tokens whose logits are made.
    `checkpointed` keeps each layer's input alone, and computes the rest again.
    """

    method: Method
    rank: int
    rows: int
    length: int
    precision: Precision
    accumulation: int = 1
    learnt: float = ANSWERS
    checkpointed: bool = False

    @property
    def tokens(self) -> int:
        return self.rows * self.length

    @property
    def sequence(self) -> int:
        """Tokens that attention sees as one sequence."""
        return self.tokens if self.tokens <= ONE_SEQUENCE else self.length

    @property
    def unit(self) -> int:
        """Bytes of a value of the model."""
        return _FLOAT if self.precision == "float32" else 2

    @property
    def taught_unit(self) -> int:
        """Bytes of a weight that is trained: peft makes an adapter in float32, and TRL turns it
        into the model's precision where that is in 4 bits."""
        return _FLOAT if self.method == "lora" else self.unit


def training(shape: Shape, step: Step) -> Need:
    """What training with AdamW needs at its highest, in one process on a CPU."""
    full = step.method == "full"
    taught = shape.weights if full else step.rank * _rows_and_columns(shape)
    unit = step.taught_unit
    learnt = f"{taught / 1e6:,.1f}M weights are trained"
    parts = [_training_weights(shape, step)]
    if not full:
        parts.append(Part(name="adapter", size=taught * unit, basis="derived", how=learnt))
    gradients = taught * unit
    activations = _activations(shape, step, gradients)
    parts += [
        Part(name="gradients", size=gradients, basis="derived", how=learnt),
        Part(
            name="optimizer",
            size=2 * taught * unit,
            basis="derived",
            how="AdamW keeps two values for each trained weight",
        ),
        activations,
        Part(
            name="holes",
            size=_holes(step, activations.size - _loss(shape, step)),
            basis="estimated",
            how="in the heap, measured on SmolLM2; none with gradient checkpointing",
        ),
        _unpacked(shape, step),
        Part(
            name="process",
            size=(_UNPACKING_TRAINER if step.method == "qlora" else _TRAINER)
            + _TRAINER_TOKEN * shape.vocabulary,
            basis="estimated",
            how="Python, torch and transformers, and the tokenizer",
        ),
    ]
    return Need(parts=tuple(parts))


def _holes(step: Step, layers: int) -> int:
    """Bytes of holes between the activations of the layers, which take `layers` bytes."""
    share = _HOLES.get((step.method, step.unit), _HOLES["lora", step.unit])
    return 0 if step.checkpointed else round(max(0, layers) * share)


def _loss(shape: Shape, step: Step) -> int:
    """Bytes of the head's logits as they are and at the learnt places, their copy in float32, its
    softmax: twelve for each when the forward pass ends, and as many when the backward one starts.
    """
    return round(step.tokens * step.learnt) * shape.vocabulary * 12


def _training_weights(shape: Shape, step: Step) -> Part:
    if step.method == "qlora":
        how = "NF4 with double quantization, embeddings in 16 bits"
        size = formats.size(shape, "nf4")
    else:
        how = f"{shape.weights / 1e6:,.0f}M weights in {step.precision}"
        size = shape.weights * step.unit
    return Part(name="weights", size=size, basis=shape.basis, how=how)


def _unpacked(shape: Shape, step: Step) -> Part:
    """bitsandbytes has no product with weights in 4 bits for several rows on a CPU: each layer is
    unpacked whole, forwards and backwards, and let go of (its MatMul4Bit)."""
    largest = max((math.prod(tensor.shape) for tensor in formats.linear(shape)), default=0)
    return Part(
        name="unpacked",
        size=largest * step.unit if step.method == "qlora" else 0,
        basis=shape.basis,
        how=f"the largest layer in {step.precision}, while it multiplies",
    )


def _activations(shape: Shape, step: Step, gradients: int) -> Part:
    """What the forward pass keeps for the backward one, and the loss.

    Gradients come as activations go, layer by layer: without accumulation they do not add up, so
    what is counted is what activations take beyond the room that the gradients need later.
    """
    loss = _loss(shape, step)
    layer = step.tokens * _kept_in_a_layer(shape, step)
    inputs = step.tokens * step.unit * shape.width * shape.layers
    size = inputs + max(loss, layer) if step.checkpointed else layer * shape.layers + loss
    beyond = max(0, size - gradients) if step.accumulation == 1 else size
    how = f"{step.rows} rows of {step.length} tokens" + (
        ", gradient checkpointing" if step.checkpointed else ""
    )
    return Part(name="activations", size=beyond, basis="derived", how=how)


def _kept_in_a_layer(shape: Shape, step: Step) -> int:
    """Bytes for each token that torch keeps of one layer.

    The inputs of norms, which compute in float32; queries, keys and values (repeated for every
    head), what attention makes of them, and its mask; of the feed-forward the gate, its activation
    and the other half. Then the input of each linear layer that learns: an adapter in another
    precision than the model's makes its own copy, one in the same shares it.
    """
    norms = _FLOAT * sum(_normed(shape, t) for t in _in_first_layer(shape, 1) if "norm" in t.name)
    attention = step.unit * (4 * shape.heads * shape.head_dim + step.sequence)
    forward = step.unit * 3 * shape.hidden
    layers = _in_first_layer(shape, 2)
    inner = step.taught_unit * step.rank * len(layers) if step.method != "full" else 0
    if step.method == "full":
        # The norms' weights learn too, from what they multiply.
        inputs = step.unit * (2 * 2 * shape.width + shape.hidden)
    elif step.unit == step.taught_unit:
        inputs = step.unit * (2 * shape.width + shape.hidden)
    else:
        inputs = _FLOAT * sum(t.shape[0] for t in layers)
    return norms + attention + forward + inputs + inner


def _normed(shape: Shape, norm: Tensor) -> int:
    """How many values of a token a norm is taken over: of all heads, where it is one of heads."""
    of_heads = {"attn_q_norm": shape.heads, "attn_k_norm": shape.kv_heads}
    return norm.shape[0] * of_heads.get(norm.name.split(".")[2], 1)


def _in_first_layer(shape: Shape, dimensions: int) -> list[Tensor]:
    return [t for t in shape.tensors if t.name.startswith("blk.0.") and len(t.shape) == dimensions]


def _rows_and_columns(shape: Shape) -> int:
    """Rows and columns of all linear layers: LoRA adds `rank` weights for each."""
    return sum(sum(t.shape) for t in formats.linear(shape))
