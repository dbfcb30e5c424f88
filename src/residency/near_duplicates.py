"""Texts that say nearly the same, found among many."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence

_EVERY_PAIR = 1_500_000  # characters of all texts; about 10 s on one core of 2024
_BLOCK = 500
_SHINGLE = 3  # characters; the same for scripts with and without spaces
_BANDS = (42, 3)  # proposes 87% of the pairs of Jaccard similarity 0.36, 99.6% from 0.5


def normalised(text: str) -> str:
    """Text as it is compared: NFKC, case folded, runs of white space as one space."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()


def canonical(answer: str) -> str:
    """An answer as it is compared: JSON whatever its spacing and key order, else its text."""
    try:
        value = json.loads(answer)
    except ValueError:
        return normalised(answer)
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def group_near(texts: Sequence[str], threshold: float) -> list[list[int]]:
    """Positions of `texts` in groups: who is in one group is near another of it.

    Near is a rapidfuzz ratio (1 - insertions and deletions / both lengths) of at least
    `threshold`. Every pair is compared where that takes seconds; in a larger set only those that
    MinHash over character 3-grams proposes. Groups are in order of their first member.
    """
    leader = list(range(len(texts)))

    def find(position: int) -> int:
        while leader[position] != position:
            leader[position] = leader[leader[position]]
            position = leader[position]
        return position

    small = sum(map(len, texts)) <= _EVERY_PAIR
    for one, other in _every_pair(texts, threshold) if small else _likely_pairs(texts, threshold):
        a, b = find(one), find(other)
        leader[max(a, b)] = min(a, b)
    groups: dict[int, list[int]] = {}
    for position in range(len(texts)):
        groups.setdefault(find(position), []).append(position)
    return list(groups.values())


def _every_pair(texts: Sequence[str], threshold: float) -> Iterator[tuple[int, int]]:
    import numpy as np
    from rapidfuzz.fuzz import ratio
    from rapidfuzz.process import cdist

    for start in range(0, len(texts), _BLOCK):
        block = texts[start : start + _BLOCK]
        scores = cdist(
            block, texts[start:], scorer=ratio, score_cutoff=threshold * 100, dtype=np.float32
        )
        for one, other in zip(*np.nonzero(scores), strict=True):
            if one < other:
                yield start + int(one), start + int(other)


def _likely_pairs(texts: Sequence[str], threshold: float) -> Iterator[tuple[int, int]]:
    from rapidfuzz.fuzz import ratio

    for bucket in _buckets(texts):
        for index, one in enumerate(bucket):
            for other in bucket[:index]:
                if ratio(texts[one], texts[other], score_cutoff=threshold * 100):
                    yield other, one


def _buckets(texts: Sequence[str]) -> list[list[int]]:
    """Groups of two and more positions whose MinHash agrees in a band."""
    from datasketch import MinHash

    bands, width = _BANDS
    found: dict[tuple[int, bytes], list[int]] = {}
    shingles = ([s.encode() for s in _shingles(text)] for text in texts)
    for position, sketch in enumerate(MinHash.generator(shingles, num_perm=bands * width)):
        for band in range(bands):
            values = sketch.hashvalues[band * width : (band + 1) * width]
            found.setdefault((band, values.tobytes()), []).append(position)
    return [bucket for bucket in found.values() if len(bucket) > 1]


def _shingles(text: str) -> list[str]:
    tight = text.replace(" ", "")
    return sorted({tight[i : i + _SHINGLE] for i in range(max(1, len(tight) - _SHINGLE + 1))})
