"""What calls ask, put into categories that nobody has named yet.

At most `MOST` distinct texts are encoded and clustered; what a call asks beyond them is put into a
category by its words.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from residency.models.encoder import Encoder
from residency.traffic import clusters, edits, naming
from residency.traffic.by_words import ByWords
from residency.traffic.fold import folded
from residency.traffic.profile import EXAMPLES
from residency.traffic.vectors import Vectors

MOST = 20_000
_COMMON = 0.05  # share of the calls from which an application's own prompt counts
_APPLICATIONS = 16
_REWORDED = 0.85  # cosine of system prompts; wordings of one are above, other tasks below
_KNOWN_PROMPTS = 10_000
Labels = NDArray[np.int64]


class Sample:
    """Distinct texts of calls and how many calls have each, those with the lowest digests: a
    random choice, and the same one for the same log. `calls` counts all that had a text."""

    def __init__(self, most: int = MOST) -> None:
        self.calls = 0
        self.prompts: Counter[str] = Counter()
        self._counts: dict[tuple[str, str], int] = {}
        self._heap: list[tuple[int, tuple[str, str]]] = []
        self._most = most

    def add(self, prompt: str, text: str) -> None:
        """Count a call of the application with this system prompt."""
        self.calls += 1
        if prompt in self.prompts or len(self.prompts) < _KNOWN_PROMPTS:
            self.prompts[prompt] += 1
        key = prompt, text
        if key in self._counts:
            self._counts[key] += 1
            return
        digest = hashlib.blake2b("\0".join(key).encode(errors="replace"), digest_size=8).digest()
        item = -int.from_bytes(digest), key
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, item)
        elif item > self._heap[0]:
            del self._counts[heapq.heapreplace(self._heap, item)[1]]
        else:
            return
        self._counts[key] = 1

    def prompts_of_many(self) -> list[str]:
        """The system prompts that many calls share, the most common first."""
        return [
            prompt
            for prompt, count in self.prompts.most_common(_APPLICATIONS)
            if count >= _COMMON * self.calls
        ]

    def texts(self, applications: Mapping[str, int]) -> Counter[tuple[int, str]]:
        """How many calls ask each text, by the number of its application, 0 for any other."""
        found: Counter[tuple[int, str]] = Counter()
        for (prompt, text), count in self._counts.items():
            found[applications.get(prompt, 0), text] += count
        return found


@dataclass(frozen=True)
class Discovery:
    """`names` of categories with `examples` of each; `tried` is each number's score by
    `criterion`; `encoded` is how many texts were clustered."""

    names: tuple[str, ...]
    examples: Mapping[str, tuple[str, ...]]
    criterion: str
    tried: Mapping[int, float]
    encoded: int
    _applications: Mapping[str, int]
    _labels: Mapping[tuple[int, str], int]

    def category(self, prompt: str, text: str) -> str:
        """The name of the category of a call."""
        key = self._applications.get(prompt, 0), text
        label = self._labels.get(key)
        return self.names[self._by_words.label(_marked(*key)) if label is None else label]

    def knows(self, prompt: str, text: str) -> bool:
        """Whether the text was itself clustered, or folded into one that was."""
        return (self._applications.get(prompt, 0), text) in self._labels

    @cached_property
    def _by_words(self) -> ByWords:
        return ByWords([_marked(*key) for key in self._labels], list(self._labels.values()))


def discover(workspace: Path, sample: Sample) -> Discovery:
    """Categories of the texts in `sample`, by the names that the user gave them before. Each
    application has categories of its own.

    Raises `MissingError` without the encoder, and what `edits.renamed` does.
    """
    encoder = Encoder()
    known = Vectors(workspace, encoder)
    applications = _told_apart(known, sample.prompts_of_many())
    counts = sample.texts(applications)
    found = [_of_one(known, n, counts) for n in sorted({n for n, _ in counts})]
    known.keep()
    texts = [text for one in found for text in one.texts]
    vectors = np.vstack([one.vectors for one in found])
    sizes = [len(one.clusters.centres) for one in found]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    pairs = list(zip(found, starts, strict=True))
    labels = np.concatenate([one.clusters.labels + start for one, start in pairs])
    centres = np.vstack([one.clusters.centres for one in found])
    called = edits.renamed(workspace, naming.names(texts, labels), centres, encoder.identity)
    names = tuple(dict.fromkeys(called))
    merged = np.array([names.index(name) for name in called])
    examples: dict[str, tuple[str, ...]] = {}
    for name, rows in zip(called, naming.examples(vectors, labels, centres), strict=True):
        nearest = tuple(texts[row] for row in rows)
        examples[name] = (examples.get(name, ()) + nearest)[:EXAMPLES]
    largest = max(found, key=lambda one: len(one.texts)).clusters
    return Discovery(
        names=names,
        examples=examples,
        criterion=largest.criterion,
        tried=largest.tried,
        encoded=len(texts),
        _applications=applications,
        _labels={
            key: int(merged[start + one.clusters.labels[place]])
            for one, start in pairs
            for key, place in zip(one.keys, one.of, strict=True)
        },
    )


@dataclass(frozen=True)
class _Application:
    """Calls of one application: `keys` are all that is asked, `of` the place of each one's
    representative among `texts`, whose vectors were clustered."""

    keys: list[tuple[int, str]]
    of: Labels
    texts: list[str]
    vectors: NDArray[np.float32]
    clusters: clusters.Discovery


def _told_apart(known: Vectors, prompts: Sequence[str]) -> dict[str, int]:
    """A number for each system prompt, from 1; another wording of one before has its number."""
    if len(prompts) < 2:
        return {}
    vectors = known.of(prompts)
    firsts: list[int] = []
    numbers = {}
    for place, prompt in enumerate(prompts):
        same = [n for n, first in enumerate(firsts) if vectors[place] @ vectors[first] >= _REWORDED]
        if not same:
            firsts.append(place)
        numbers[prompt] = same[0] + 1 if same else len(firsts)
    return numbers


def _of_one(known: Vectors, number: int, counts: Counter[tuple[int, str]]) -> _Application:
    keys = [key for key in counts if key[0] == number]
    chosen, of = folded([text for _, text in keys])
    texts = [keys[place][1] for place in chosen]
    vectors = known.of(texts)
    weights = np.bincount(of, weights=[counts[key] for key in keys])
    found = clusters.discover(vectors, weights)
    return _Application(keys, of, texts, vectors, found)


def _marked(application: int, text: str) -> str:
    return f"{text} application{application}"
