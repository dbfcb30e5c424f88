"""What the heads of a model look at: the sink, the neighbour, itself, or something that it means.

The first token of a text draws attention that has nowhere else to go (Xiao et al. 2024, "Efficient
Streaming Language Models with Attention Sinks"). It is named, and never counted as meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
KINDS = ("first token", "previous token", "itself", "elsewhere")
"""What a head can look at most: by the mean share of its attention, from the third token on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """Token `source` gives `share` of its attention to the earlier token `target`, in that head;
    `others` is the mean that later tokens than `target` give it there.

    `heads` counts the heads that do so with at least half of that share.
    """

    layer: int
    head: int
    source: int
    target: int
    share: float
    others: float
    heads: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Heads:
    """`kinds` (layers, heads) are places in `KINDS`, `shares` (layers, heads, 4) the mean shares;
    `sink` (layers) is the first token's, over all heads. `links` are the strongest of all."""

    kinds: NDArray[np.int_]
    shares: Floats
    sink: Floats
    links: tuple[Link, ...]


def look(weights: Floats, most: int = 12) -> Heads:
    """What heads look at, from attention `weights` (layers, heads, T, T) of at least 3 tokens."""
    count = weights.shape[-1]
    rows = np.arange(2, count)  # before that the first token is also itself or the previous one
    first, previous, itself = (
        weights[:, :, rows, rows * 0],
        weights[:, :, rows, rows - 1],
        weights[:, :, rows, rows],
    )
    rest = 1 - first - previous - itself
    shares = np.stack([one.mean(axis=-1) for one in (first, previous, itself, rest)], axis=-1)
    return Heads(
        kinds=shares.argmax(axis=-1),
        shares=shares,
        sink=shares[:, :, 0].mean(axis=-1),
        links=strongest(weights, range(count), most),
    )


def strongest(weights: Floats, sources: Sequence[int], most: int) -> tuple[Link, ...]:
    """The links from `sources` that are most their own: to what is neither the first token, the
    previous one nor the source, by how far the share is above what others give. Some tokens draw
    attention from everywhere, as the first one does. Of a pair only its strongest head."""
    found = []
    for source in sources:
        for target in range(1, source - 1):
            of_pair = weights[:, :, source, target]
            rest = weights[:, :, target + 1 :, target].sum(axis=-1) - of_pair
            others = rest / (weights.shape[-1] - target - 2)
            layer, head = np.unravel_index(int((of_pair - others).argmax()), of_pair.shape)
            share = float(of_pair[layer, head])
            found.append(
                Link(
                    layer=int(layer),
                    head=int(head),
                    source=source,
                    target=target,
                    share=share,
                    others=float(others[layer, head]),
                    heads=int((of_pair >= share / 2).sum()),
                )
            )
    return tuple(sorted(found, key=lambda link: link.others - link.share)[:most])
