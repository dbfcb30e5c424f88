"""What a category is called: the words that tell its texts from those of the others."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from residency.words import runs, unspaced

_WORDS = 3
_PLACEHOLDER = re.compile(r"\[[A-Z_]+_\d+\]")  # what masking left
_STEM = 4  # words that begin alike say the same: cancel, canceling
_SAY_LITTLE = """
    a about all am an and any are as at be been but by can could did didn do does doesn don for
    from get had has have how i if in into is isn it its let ll me my no not of off on or our out
    please re should so that the their them there these they this to up us ve was we were what
    when where which who why will with would you your
"""
_EMPTY = frozenset(_SAY_LITTLE.split())


def names(texts: Sequence[str], labels: NDArray[np.int64]) -> list[str]:
    """A name for each label from 0 up, no two the same: its three most telling words.

    A word tells by p log(p / mean of p), p being the share of a category's texts that have it: its
    part in the divergence of the category from all. Without spaces, pairs of characters are words.
    """
    count = int(labels.max()) + 1 if len(labels) else 0
    sizes = np.bincount(labels, minlength=count)
    having: dict[str, Counter[int]] = {}
    places: list[dict[str, list[float]]] = [{} for _ in range(count)]
    for text, label in zip(texts, labels.tolist(), strict=True):
        for place, term in enumerate(dict.fromkeys(_terms(text))):
            having.setdefault(term, Counter())[label] += 1
            places[label].setdefault(term, []).append(place)
    taken: set[str] = set()
    found = []
    for label in range(count):
        ranked = _ranked(having, places[label], label, sizes)
        name = _unique(ranked, places[label], taken)
        taken.add(name)
        found.append(name)
    return found


def examples(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    centres: NDArray[np.float32],
    most: int = 5,
) -> list[list[int]]:
    """For each category the rows nearest its centre, the nearest first."""
    alike = np.einsum("nd,nd->n", vectors, centres[labels])
    order = np.argsort(-alike, kind="stable")
    return [order[labels[order] == label][:most].tolist() for label in range(len(centres))]


def _terms(text: str) -> list[str]:
    found: list[str] = []
    for run in runs(_PLACEHOLDER.sub(" ", text)):
        if unspaced(run[0]) and len(run) > 2:
            found += [run[i : i + 2] for i in range(len(run) - 1)]
        elif len(run) > 1 and run not in _EMPTY and not any(map(str.isdigit, run)):
            found.append(run)
    return found


def _ranked(
    having: dict[str, Counter[int]],
    places: dict[str, list[float]],
    label: int,
    sizes: NDArray[np.int64],
) -> list[str]:
    """The category's terms, the most telling first; in a tie the more frequent, then by letter."""

    def telling(term: str) -> tuple[float, int, str]:
        counts = having[term]
        share = counts[label] / sizes[label]
        mean = sum(n / sizes[other] for other, n in counts.items()) / len(sizes)
        return (-share * float(np.log(share / mean)), -counts[label], term)

    return sorted(places, key=telling)


def _unique(ranked: Sequence[str], places: dict[str, list[float]], taken: set[str]) -> str:
    """The first words in the order in which they are said; one more where that name is taken."""
    chosen: list[str] = []
    name = "no words"
    for term in ranked:
        if not any(_overlap(term, other) for other in chosen):
            chosen.append(term)
            name = " ".join(sorted(chosen, key=lambda word: (np.mean(places[word]), word)))
        if len(chosen) >= _WORDS and name not in taken:
            break
    return free(name, taken)


def free(name: str, taken: set[str]) -> str:
    """`name`, numbered where it is another's: else two categories would be merged."""
    numbered = (f"{name} ({number})" for number in itertools.count(2))
    return next(one for one in itertools.chain([name], numbered) if one not in taken)


def _overlap(one: str, other: str) -> bool:
    """Two forms of one word, or two pairs of characters out of one."""
    if unspaced(one[0]):
        return bool(set(one) & set(other))
    return one[:_STEM] == other[:_STEM]
