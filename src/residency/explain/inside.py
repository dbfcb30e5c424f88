"""What the page shows of layers: scores, rotations, norms and what fires, from one recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from residency.explain.heads import Floats
from residency.explain.recording import Recorded, Recording

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 8
"""First dimensions of a vector that the page has."""
PAIRS = 6
"""Pairs of rotated dimensions that the page has, from the fastest to the slowest."""
FIRING = 6
"""Neurons of the feed-forward that the page names for each token and layer."""
_EXACT = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Attention:
    """`scores` and `weights` (layers, heads, T, T): what a softmax over the scores gives the
    weights; a score is minus infinity where a token may not look.

    `query` (layers, heads, T, SHOWN), `key` and `value` (layers, key heads, T, SHOWN) are first
    dimensions. For each layer `scaling` multiplies q·k, `softcap` bounds the result by a tanh where
    it is above 0, and `window` is how many tokens it sees, 0 all.
    """

    scores: Floats
    weights: Floats
    query: Floats
    key: Floats
    value: Floats
    scaling: tuple[float, ...]
    softcap: tuple[float, ...]
    window: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotation:
    """`frequencies` (of each kind of layer, pairs) are radians a token; `kind` says of which kind a
    layer is. Of `dimensions` of a head's, the first `rotated` turn.

    `pairs` are the numbers of those shown; `keys` (layers, key heads, T, pairs, 2) are keys after
    the turn. Dimension i makes a pair with i + `rotated` / 2.
    """

    frequencies: Floats
    kind: tuple[int, ...]
    rotated: int
    dimensions: int
    pairs: tuple[int, ...]
    keys: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Norms:
    """The norm before attention: `kind` is its class; `before` and `after` (layers, T, SHOWN) first
    dimensions, `size_before` and `size_after` (layers, T) root mean squares of all."""

    kind: str
    before: Floats
    after: Floats
    size_before: Floats
    size_after: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Firing:
    """The feed-forward: `neurons` (layers, T, FIRING) are those that answer most, by the size of
    `fired`; `gate` and `up` (same shape) are what was multiplied for that, after the gate's
    activation. `gate` is None where there is none. `open` (layers, T) is the share of neurons whose
    gate, or else value, is above 0; `most` (layers, T) the share of all squares that the neurons
    named here have."""

    hidden: int
    neurons: NDArray[np.int_]
    fired: Floats
    gate: Floats | None
    up: Floats
    open: Floats
    most: Floats


def attention(recording: Recording) -> Attention | None:
    """None where a softmax over q·k does not give what the model's own attention gave."""
    layers = recording.layers
    if any(layer.weights is None for layer in layers):
        return None
    scores = [_scores(layer) for layer in layers]
    weights = np.stack([_numpy(layer.weights) for layer in layers])
    softmax = np.stack([_numpy(one.softmax(dim=-1)) for one in scores])
    if not np.allclose(softmax, weights, atol=_EXACT):
        return None
    return Attention(
        scores=np.stack([_numpy(one) for one in scores]),
        weights=weights,
        query=np.stack([_numpy(layer.query)[..., :SHOWN] for layer in layers]),
        key=np.stack([_numpy(layer.key)[..., :SHOWN] for layer in layers]),
        value=np.stack([_numpy(layer.value)[..., :SHOWN] for layer in layers]),
        scaling=tuple(layer.scaling for layer in layers),
        softcap=tuple(layer.softcap for layer in layers),
        window=tuple(layer.window for layer in layers),
    )


def _scores(layer: Recorded) -> Tensor:
    import torch

    assert layer.query is not None
    assert layer.key is not None
    keys = layer.key.repeat_interleave(layer.query.shape[0] // layer.key.shape[0], dim=0)
    scores = layer.query @ keys.transpose(1, 2) * layer.scaling
    if layer.softcap:
        scores = torch.tanh(scores / layer.softcap) * layer.softcap
    if layer.mask is not None:
        scores = scores.masked_fill(layer.mask < 0, -torch.inf)
    return scores.float()


def rotation(recording: Recording, halves: bool) -> Rotation | None:
    """None where positions are not put in by turning pairs of halves."""
    layers = recording.layers
    if not halves or any(layer.cos is None or layer.key is None for layer in layers):
        return None
    turns: list[Floats] = []
    kind: list[int] = []
    for layer in layers:
        cos, sin = _numpy(layer.cos), _numpy(layer.sin)
        half = cos.shape[1] // 2
        # The angle between two neighbours: it is what one step turns.
        step = np.arctan2(sin[1, :half], cos[1, :half])
        same = [n for n, known in enumerate(turns) if np.array_equal(known, step)]
        kind.append(same[0] if same else len(turns))
        turns += [] if same else [step]
    if len({len(one) for one in turns}) > 1:
        return None
    half = len(turns[0])
    pairs = tuple(dict.fromkeys(round(x) for x in np.linspace(0, half - 1, PAIRS)))
    both = [_numpy(layer.key)[..., [(p, p + half) for p in pairs]] for layer in layers]
    return Rotation(
        frequencies=np.stack(turns),
        kind=tuple(kind),
        rotated=2 * half,
        dimensions=_numpy(layers[0].key).shape[-1],
        pairs=pairs,
        keys=np.stack(both),
    )


def norms(recording: Recording, kind: str) -> Norms | None:
    """None where no norm stands before attention."""
    layers = recording.layers
    if any(layer.before is None or layer.after is None for layer in layers):
        return None
    before = np.stack([_numpy(layer.before) for layer in layers])
    after = np.stack([_numpy(layer.after) for layer in layers])
    return Norms(
        kind=kind,
        before=before[..., :SHOWN],
        after=after[..., :SHOWN],
        size_before=_size(before),
        size_after=_size(after),
    )


def firing(recording: Recording) -> Firing | None:
    """None where a layer has several feed-forwards (experts), or another kind."""
    layers = recording.layers
    if any(layer.fired is None or layer.up is None for layer in layers):
        return None
    fired = np.stack([_numpy(layer.fired) for layer in layers])
    up = np.stack([_numpy(layer.up) for layer in layers])
    gated = all(layer.gate is not None for layer in layers)
    gate = np.stack([_numpy(layer.gate) for layer in layers]) if gated else None
    neurons = np.argsort(-np.abs(fired), axis=-1)[..., :FIRING]
    best = np.take_along_axis(fired, neurons, axis=-1)
    squares = np.square(fired).sum(axis=-1)
    return Firing(
        hidden=fired.shape[-1],
        neurons=neurons,
        fired=best,
        gate=np.take_along_axis(gate, neurons, axis=-1) if gate is not None else None,
        up=np.take_along_axis(up, neurons, axis=-1),
        open=((gate if gate is not None else up) > 0).mean(axis=-1, dtype=np.float32),
        most=np.square(best).sum(axis=-1) / np.maximum(squares, 1e-30),
    )


def _size(values: Floats) -> Floats:
    return np.asarray(np.sqrt(np.square(values).mean(axis=-1)))


def _numpy(tensor: Tensor | None) -> Floats:
    assert tensor is not None
    return np.asarray(tensor.float().numpy())
