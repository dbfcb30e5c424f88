"""What keys and values cost: every head its own (MHA), groups share (GQA), all share (MQA).

Shazeer 2019 ("Fast Transformer Decoding") has MQA, Ainslie et al. 2023 GQA.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from residency.models.memory import cache_a_token
from residency.models.shape import Shape

CONTEXTS = (2048, 8192)
"""Tokens for which the cache's size is shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharing:
    """One way on this model's shape: `a_token` in bytes of 16-bit keys and values, `sizes` in bytes
    for each of `CONTEXTS`, as if every layer saw all of it. `own` where the model does so."""

    name: str
    key_heads: int
    a_token: int
    sizes: tuple[int, ...]
    own: bool


def compare(shape: Shape) -> tuple[Sharing, ...]:
    """MHA, GQA and MQA; the groups are this model's where it has some, else of four heads."""
    heads, own = shape.heads, shape.kv_heads
    groups = own if 1 < own < heads else max(1, heads // 4)
    found = []
    for name, count in (("MHA", heads), ("GQA", groups), ("MQA", 1)):
        each = cache_a_token(dataclasses.replace(shape, kv_heads=count))
        sizes = tuple(each * context for context in CONTEXTS)
        if name != "GQA" or 1 < count < heads:
            found.append(
                Sharing(name=name, key_heads=count, a_token=each, sizes=sizes, own=count == own)
            )
    return tuple(found)
