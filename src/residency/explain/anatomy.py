"""Where the parts of a Transformer are in a model of transformers, whatever they are called there.

Found by what they are (a list of as many modules as the config has layers, a module that knows
its layer's number), so that a new architecture mostly needs nothing here. What is not found is
None, and the page says that it cannot show it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from residency.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

_INPUT_NORMS = ("input_layernorm", "ln_1", "operator_norm")
_FEED_FORWARDS = ("mlp", "feed_forward")


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedForward:
    """`gate` and `up` widen a token's vector, `down` narrows it again; where both come from one
    matrix (Phi-3) it is `both`, and where nothing gates (Phi-2) `gate` and `both` are None."""

    gate: nn.Module | None
    up: nn.Module | None
    both: nn.Module | None
    down: nn.Module


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """The parts of one layer; `norm` is the one before attention."""

    attention: nn.Module | None
    norm: nn.Module | None
    feed_forward: FeedForward | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Anatomy:
    """`final_norm` is what the last layer's result goes through; `halves` says whether a rotation
    pairs dimension i with i + half of them, as Llama's does, and not with its neighbour."""

    blocks: tuple[Block, ...]
    final_norm: nn.Module | None
    halves: bool


def find(model: Any) -> Anatomy:
    """The parts of a causal language model. Raises `ModelError` where it has no list of layers."""
    from torch import nn

    count = int(model.config.get_text_config().num_hidden_layers)
    lists = [
        (name, m)
        for name, m in model.named_modules()
        if isinstance(m, nn.ModuleList) and len(m) == count
    ]
    if not lists:
        raise ModelError(
            f"{type(model).__name__}: no list of {count} layers, so its inside cannot be shown",
            hint="a Llama-, Mistral-, Qwen-, Phi- or Gemma-shaped model can",
        )
    name, layers = min(lists, key=lambda one: one[0].count("."))
    owner = model.get_submodule(name.rpartition(".")[0])
    norms = [m for m in owner.children() if _is_norm(m)]
    return Anatomy(
        blocks=tuple(_block(layer) for layer in layers),
        final_norm=norms[-1] if norms else None,
        halves=_pairs_halves(layers[0]),
    )


def _block(layer: nn.Module) -> Block:
    children = dict(layer.named_children())
    attention = [m for m in children.values() if hasattr(m, "layer_idx")]
    norms = [children[n] for n in _INPUT_NORMS if n in children and _is_norm(children[n])]
    feeds = [children[n] for n in _FEED_FORWARDS if n in children]
    return Block(
        attention=attention[0] if attention else None,
        norm=norms[0] if norms else None,
        feed_forward=_feed_forward(feeds[0]) if feeds else None,
    )


def _feed_forward(module: nn.Module) -> FeedForward | None:
    part = dict(module.named_children())
    if {"gate_proj", "up_proj", "down_proj"} <= part.keys():
        gate, up, down = (part[name] for name in ("gate_proj", "up_proj", "down_proj"))
        return FeedForward(gate=gate, up=up, both=None, down=down)
    if {"gate_up_proj", "down_proj"} <= part.keys():
        return FeedForward(gate=None, up=None, both=part["gate_up_proj"], down=part["down_proj"])
    if {"fc1", "fc2"} <= part.keys():
        return FeedForward(gate=None, up=part["fc1"], both=None, down=part["fc2"])
    return None


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower()


def _pairs_halves(layer: nn.Module) -> bool:
    """Asked of the model's own code."""
    import torch

    rotate = getattr(sys.modules[type(layer).__module__], "rotate_half", None)
    if rotate is None:
        return False
    return bool(torch.equal(rotate(torch.tensor([0.0, 1, 2, 3])), torch.tensor([-2.0, -3, 0, 1])))
