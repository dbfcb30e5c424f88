"""One pass of a model with everything that the page shows kept: hooks, no second implementation.

Queries, keys and values are taken where transformers hands them to attention (its
`AttentionInterface`), after whatever an architecture did to them before: one fused matrix, biases,
norms, a rotation of a part. The attention itself is then the architecture's own eager one.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from residency.errors import ModelError
from residency.explain.anatomy import Anatomy, Block, FeedForward

if TYPE_CHECKING:
    import torch
    from torch import Tensor

IMPLEMENTATION = "residency"
"""The name under which transformers knows our attention."""


@dataclass(kw_only=True, slots=True)
class Recorded:
    """What one layer computed, without the batch's dimension, for T tokens.

    `query` (heads, T, d), `key` and `value` (key heads, T, d) are as attention takes them,
    `weights` (heads, T, T) what it makes of them, `mask` (T, T) what it adds to the scores.
    `cos` and `sin` (T, rotated dimensions) turn queries and keys. `before` and `after` (T, width)
    are the norm's. `gate`, `up` and `fired` (T, hidden) are the feed-forward's.
    """

    query: Tensor | None = None
    key: Tensor | None = None
    value: Tensor | None = None
    weights: Tensor | None = None
    mask: Tensor | None = None
    scaling: float = 1.0
    softcap: float = 0.0
    window: int = 0
    cos: Tensor | None = None
    sin: Tensor | None = None
    before: Tensor | None = None
    after: Tensor | None = None
    gate: Tensor | None = None
    up: Tensor | None = None
    fired: Tensor | None = None


@dataclass(kw_only=True, slots=True)
class Recording:
    """A pass over T tokens: `states` are the stream's (T, width) before the first layer and after
    each, the last one before the final norm; `logits` (T, vocabulary)."""

    layers: list[Recorded]
    states: list[Tensor] = field(default_factory=list)
    logits: Tensor | None = None


_NOW: ContextVar[Recording | None] = ContextVar("recording", default=None)


def register() -> None:
    """Make our attention known to transformers."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(IMPLEMENTATION, _attention)
    AttentionMaskInterface.register(IMPLEMENTATION, eager_mask)


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
) -> tuple[Tensor, Any]:
    own = sys.modules[type(module).__module__].eager_attention_forward
    output, weights = own(module, query, key, value, attention_mask, **options)
    if (recording := _NOW.get()) is not None:
        layer = recording.layers[module.layer_idx]
        layer.query, layer.key, layer.value, layer.weights = (
            one[0].detach() for one in (query, key, value, weights)
        )
        layer.mask = attention_mask[0, 0] if attention_mask is not None else None
        layer.scaling = float(options.get("scaling") or query.shape[-1] ** -0.5)
        layer.softcap = float(options.get("softcap") or 0.0)
        layer.window = int(options.get("sliding_window") or 0)
    return output, weights


def record(model: Any, anatomy: Anatomy, ids: Sequence[int]) -> Recording:
    """Read `ids` once. Raises `ModelError` where the model itself fails."""
    import torch

    recording = Recording(layers=[Recorded() for _ in anatomy.blocks])
    token = _NOW.set(recording)
    try:
        with _hooks(anatomy, recording), torch.no_grad():
            result = model(
                input_ids=torch.tensor([list(ids)]), use_cache=False, output_hidden_states=True
            )
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(
            f"{type(model).__name__}: it cannot be watched at work: {error}",
            hint="a Llama-, Mistral-, Qwen-, Phi- or Gemma-shaped model can",
        ) from error
    finally:
        _NOW.reset(token)
    recording.logits = result.logits[0].float()
    # transformers gives the last state after the final norm, which a hook has seen before it.
    last = recording.states
    recording.states = [*(state[0] for state in result.hidden_states[:-1]), *last]
    return recording


@contextlib.contextmanager
def _hooks(anatomy: Anatomy, recording: Recording) -> Iterator[None]:
    handles = []
    for block, layer in zip(anatomy.blocks, recording.layers, strict=True):
        handles += _block_hooks(block, layer)
    if anatomy.final_norm is not None:
        handles.append(
            anatomy.final_norm.register_forward_hook(
                lambda _, given, __: recording.states.append(given[0][0].detach())
            )
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _block_hooks(block: Block, layer: Recorded) -> list[Any]:
    handles: list[Any] = []
    if block.attention is not None:

        def rotation(_: Any, __: Any, options: dict[str, Any]) -> None:
            if pair := options.get("position_embeddings"):
                layer.cos, layer.sin = (one[0].detach() for one in pair)

        handles.append(block.attention.register_forward_pre_hook(rotation, with_kwargs=True))
    if block.norm is not None:

        def norm(_: Any, given: Any, made: Any) -> None:
            layer.before, layer.after = given[0][0].detach(), made[0].detach()

        handles.append(block.norm.register_forward_hook(norm))
    if block.feed_forward is not None:
        handles += _feed_forward_hooks(block.feed_forward, layer)
    return handles


def _feed_forward_hooks(parts: FeedForward, layer: Recorded) -> list[Any]:
    def both(_: Any, __: Any, made: torch.Tensor) -> None:
        layer.gate, layer.up = made[0].detach().chunk(2, dim=-1)

    def fired(_: Any, given: Any) -> None:
        layer.fired = given[0][0].detach()

    def keep(name: str) -> Any:
        return lambda _, __, made: setattr(layer, name, made[0].detach())

    handles = [parts.down.register_forward_pre_hook(fired)]
    if parts.both is not None:
        handles.append(parts.both.register_forward_hook(both))
    for name, module in (("gate", parts.gate), ("up", parts.up)):
        if module is not None:
            handles.append(module.register_forward_hook(keep(name)))
    return handles
