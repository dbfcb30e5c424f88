"""What a text in a script without spaces says by its characters and their pairs, hashed.

The encoder was taught English and knows few of those characters. Two categories of Chinese texts
have characters that tell them apart, as docs/log.md has in figures.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from residency.words import runs, unspaced

VERSION = 1  # raised when texts get other vectors than before
_WEIGHT = 0.85  # of characters, for a text of nothing else; the encoder has the rest

Vectors = NDArray[np.float32]


def blended(texts: Sequence[str], vectors: Vectors) -> Vectors:
    """`vectors`, one of length 1 a text, with the characters' part by their share of the words.

    A text with spaces keeps its vector as it is. Places and signs are hashed (Weinberger et al.
    2009), so that nothing is learnt and vectors of two reports compare.
    """
    found = vectors.copy()
    for place, text in enumerate(texts):
        split = runs(text)
        said = [run for run in split if unspaced(run[0])]
        if said:
            count = sum(map(len, said))
            share = _WEIGHT * count / (count + len(split) - len(said))
            own = _hashed(said, vectors.shape[1])
            both = (1 - share) ** 0.5 * vectors[place] + share**0.5 * own
            found[place] = both / np.linalg.norm(both)
    return found


def _hashed(said: Sequence[str], width: int) -> Vectors:
    row = np.zeros(width, dtype=np.float32)
    for run in said:
        for gram in itertools.chain(run, map("".join, itertools.pairwise(run))):
            code = zlib.crc32(gram.encode())
            row[code % width] += 1 if code >> 31 else -1
    return np.asarray(row / max(float(np.linalg.norm(row)), 1e-9))
