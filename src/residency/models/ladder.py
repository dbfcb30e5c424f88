"""What makes a training step lighter, the least painful change first.

The order is that of practice: fewer rows at once, which changes nothing that is learnt; shorter
rows; a smaller adapter. `residency fit` advises by it, and training that runs out of memory goes
down it by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

LEAST_LENGTH, LEAST_RANK = 256, 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """`rows` computed at once, `accumulation` times for one step; `length` of the longest row in
    tokens; `rank` of the adapter, 0 where there is none."""

    rows: int
    accumulation: int
    length: int
    rank: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """A lighter load, and what was changed, in words."""

    load: Load
    words: str


def lighter(load: Load) -> Rung | None:
    """The next rung; None at the end of the ladder."""
    if load.rows > 1:
        below = replace(load, rows=load.rows // 2, accumulation=_kept(load))
        words = (
            f"batch {load.rows} -> {below.rows}, accumulation "
            f"{load.accumulation} -> {below.accumulation}"
        )
        return Rung(load=below, words=words)
    if load.length > LEAST_LENGTH:
        below = replace(load, length=max(LEAST_LENGTH, load.length // 2))
        return Rung(load=below, words=f"length {load.length} -> {below.length}")
    if load.rank > LEAST_RANK:
        below = replace(load, rank=max(LEAST_RANK, load.rank // 2))
        return Rung(load=below, words=f"rank {load.rank} -> {below.rank}")
    return None


def rungs(load: Load) -> Iterator[Rung]:
    """All rungs below `load`, each from the one before."""
    rung = lighter(load)
    while rung:
        yield rung
        rung = lighter(rung.load)


def _kept(load: Load) -> int:
    """How often half the rows are computed for a step of as many rows, rounded up."""
    return -(-load.rows * load.accumulation // (load.rows // 2))
