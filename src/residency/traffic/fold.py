"""Texts that ask the same in nearly the same words, folded into one before they are clustered.

Else a template that was sent a thousand times would be a category, however little it means.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from residency.near_duplicates import group_near, normalised

_NEAR = 0.9


def folded(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The positions of the representatives in `texts`, and for each text its place among them.

    The first of its like is the representative. Texts are alike from a ratio of 0.9
    (`near_duplicates.group_near`), whatever their case, their spacing and their numbers.
    """
    same: dict[str, list[int]] = {}
    for position, text in enumerate(texts):
        same.setdefault(re.sub(r"\d+", "0", normalised(text)), []).append(position)
    positions = list(same.values())
    groups = group_near(list(same), _NEAR)
    representatives = np.array([positions[group[0]][0] for group in groups], dtype=np.int64)
    of = np.empty(len(texts), dtype=np.int64)
    for place, group in enumerate(groups):
        for member in group:
            of[positions[member]] = place
    return representatives, of
