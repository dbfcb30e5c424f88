"""Rows that say the same: the very same are dropped, the nearly same are kept together.

Near-duplicates stay, as they teach something; but a group of them must not be split over training
and test, or the test asks what was taught.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from residency.types import Conversation

_SHINGLE = 3  # characters; the same for scripts with and without spaces
_PERMUTATIONS = 64
_BANDS = (32, 2)  # finds nine of ten pairs of Jaccard similarity 0.27, all but sure from 0.4


@dataclass(frozen=True, kw_only=True, slots=True)
class Deduped:
    """`duplicates` and `contradictions` are pairs of sources: the row dropped, the row kept."""

    rows: list[Conversation]
    duplicates: list[tuple[str, str]]
    contradictions: list[tuple[str, str]]


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


def compared(row: Conversation) -> str:
    """The text in which near-duplicates are looked for: all that was said before the answer.

    In a dialogue the last question alone is often no more than "yes, please".
    """
    return normalised("\n".join(m.content for m in row.prompt if m.role != "system"))


def drop_repeated(rows: Sequence[Conversation]) -> Deduped:
    """Keep the first row of each question; a later one with another answer contradicts it."""
    kept: dict[str, Conversation] = {}
    duplicates, contradictions = [], []
    for row in rows:
        key = "\0".join(f"{m.role}\1{normalised(m.content)}" for m in row.prompt)
        first = kept.setdefault(key, row)
        if first is not row:
            same = canonical(first.answer) == canonical(row.answer)
            (duplicates if same else contradictions).append((row.source, first.source))
    return Deduped(
        rows=list(kept.values()), duplicates=duplicates, contradictions=contradictions
    )


def group_near(texts: Sequence[str], threshold: float) -> list[list[int]]:
    """Positions of `texts` in groups: who is in one group is near another of it.

    Near is a rapidfuzz ratio (1 - insertions and deletions / both lengths) of at least
    `threshold`. Candidates come from MinHash over character 3-grams. Groups are in order of their
    first member.
    """
    from rapidfuzz.fuzz import ratio

    leader = list(range(len(texts)))

    def find(position: int) -> int:
        while leader[position] != position:
            leader[position] = leader[leader[position]]
            position = leader[position]
        return position

    for bucket in _buckets(texts):
        for index, one in enumerate(bucket):
            for other in bucket[:index]:
                a, b = find(one), find(other)
                if a != b and ratio(texts[one], texts[other], score_cutoff=threshold * 100):
                    leader[max(a, b)] = min(a, b)
    groups: dict[int, list[int]] = {}
    for position in range(len(texts)):
        groups.setdefault(find(position), []).append(position)
    return list(groups.values())


def _buckets(texts: Sequence[str]) -> list[list[int]]:
    """Groups of two and more positions whose MinHash agrees in a band."""
    from datasketch import MinHash

    bands, rows = _BANDS
    found: dict[tuple[int, bytes], list[int]] = {}
    shingles = [[s.encode() for s in _shingles(text)] for text in texts]
    for position, sketch in enumerate(MinHash.bulk(shingles, num_perm=_PERMUTATIONS)):
        values = sketch.hashvalues
        for band in range(bands):
            key = (band, values[band * rows : (band + 1) * rows].tobytes())
            found.setdefault(key, []).append(position)
    return [bucket for bucket in found.values() if len(bucket) > 1]


def _shingles(text: str) -> list[str]:
    tight = text.replace(" ", "")
    return sorted({tight[i : i + _SHINGLE] for i in range(max(1, len(tight) - _SHINGLE + 1))})
