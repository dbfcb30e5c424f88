"""How near texts are to what was taught, and which are like nothing of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from residency.models.encoder import Encoder
from residency.traffic.vectors import Vectors

EXPECTED = 0.05
"""The share of what was taught that is itself called unknown: its nearest neighbour is farther than
that of the other 95%."""
MOST = 2000
"""Texts of each side that are encoded: about five seconds on one core of 2024."""
_LEAST = 20


class Nearness:
    """Tells texts apart from `taught`, of which `MOST` in even steps are looked at.

    Raises `MissingError` without the encoder.
    """

    def __init__(self, workspace: Path, taught: Sequence[str]) -> None:
        self._known = Vectors(workspace, Encoder())
        distinct = list(dict.fromkeys(taught))
        step = max(1, len(distinct) // MOST)
        self._taught = self._known.of(distinct[::step][:MOST])
        alike = self._taught @ self._taught.T
        np.fill_diagonal(alike, -1.0)
        nearest = alike.max(axis=1) if len(alike) >= _LEAST else np.array([-1.0])
        self.bound = float(np.quantile(nearest, EXPECTED))

    def of(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The texts as vectors of length 1, a row each."""
        return self._known.of(texts)

    def unknown(self, vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of them are farther from all that was taught than `bound`; none where too little
        was taught to say."""
        return np.asarray((vectors @ self._taught.T).max(axis=1) < self.bound)
