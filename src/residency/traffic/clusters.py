"""Vectors in categories, with a number of categories that nobody has to state.

Ward's linkage proposes (Ward 1963), spherical k-means corrects (Dhillon and Modha 2001). The
number is the one with the highest product of two scores: silhouette (Rousseeuw 1987), by which
categories are tight and apart, and which alone takes too many; and modularity of the graph of
nearest neighbours (Newman 2004), by which neighbours are together, and which alone takes too few.
docs/log.md has the comparison with other criteria.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]

CRITERION = "silhouette times modularity of the nearest-neighbour graph"
_SAMPLE = 1500  # vectors among which the number is chosen: seconds, on one core of 2024
_MOST = 150
_FEWEST_EACH = 4
_NEIGHBOURS = 10
_STEP = 1.07  # from one number tried to the next
_ROUNDS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Discovery:
    """`labels` are rows of `centres`, the heaviest category first; `tried` is each number's score
    by `criterion`, empty where too few vectors were there to choose.
    """

    labels: Labels
    centres: Vectors
    criterion: str
    tried: Mapping[int, float]


def discover(vectors: Vectors, weights: NDArray[Any], *, seed: int = 17) -> Discovery:
    """Categories of `vectors`, one of length 1 a row; `weights` is how many calls each stands for.

    The number is chosen on at most 1,500 rows, drawn by weight; the rest join the nearest centre.
    """
    sample = vectors[_drawn(np.asarray(weights, dtype=np.float64), seed)]
    first, tried = _chosen(sample)
    labels = _settled(vectors, nearest(vectors, _centres(sample, first)))
    order = np.argsort(-np.bincount(labels, weights=weights), kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    labels = place[labels]
    return Discovery(
        labels=labels, centres=_centres(vectors, labels), criterion=CRITERION, tried=tried
    )


def nearest(vectors: Vectors, centres: Vectors) -> Labels:
    """The row of `centres` that each vector is most alike."""
    return np.asarray((vectors @ centres.T).argmax(axis=1), dtype=np.int64)


def _drawn(weights: NDArray[np.float64], seed: int) -> Labels:
    """Rows drawn by weight without replacement (Efraimidis and Spirakis 2006), in their order."""
    if len(weights) <= _SAMPLE:
        return np.arange(len(weights))
    keys = np.random.default_rng(seed).exponential(size=len(weights)) / weights
    return np.sort(np.argsort(keys, kind="stable")[:_SAMPLE])


def _chosen(vectors: Vectors) -> tuple[Labels, dict[int, float]]:
    from scipy.cluster.hierarchy import fcluster, linkage

    numbers = _numbers(min(_MOST, len(vectors) // _FEWEST_EACH))
    if not numbers:
        return np.zeros(len(vectors), dtype=np.int64), {}
    tree = linkage(vectors, "ward")
    graph = _graph(vectors)
    found: dict[int, Labels] = {}
    tried: dict[int, float] = {}
    for number in numbers:
        labels = _settled(vectors, _tight(fcluster(tree, number, "maxclust")))
        found[number] = labels
        tried[number] = max(_silhouette(vectors, labels), 0.0) * _modularity(graph, labels)
    return found[max(tried, key=lambda number: tried[number])], tried


def _numbers(most: int) -> list[int]:
    """Whole numbers from 2, each at least 7% more than the one before: finer changes little."""
    found = []
    number = 2
    while number <= most:
        found.append(number)
        number = max(number + 1, int(number * _STEP))
    return found


def _tight(labels: NDArray[Any]) -> Labels:
    """The same categories, numbered from 0 without gaps."""
    return np.asarray(np.unique(labels, return_inverse=True)[1], dtype=np.int64)


def _members(labels: Labels) -> Any:
    """1 where a row's vector is in a column's category, else 0; a sparse matrix."""
    from scipy.sparse import csr_array

    rows = np.arange(len(labels))
    return csr_array((np.ones(len(labels), dtype=np.float32), (rows, labels)))


def _sums(vectors: Vectors, labels: Labels) -> Vectors:
    return np.asarray(_members(labels).T @ vectors)


def _centres(vectors: Vectors, labels: Labels) -> Vectors:
    sums = _sums(vectors, labels)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.maximum(lengths, 1e-9))


def _settled(vectors: Vectors, labels: Labels) -> Labels:
    """Spherical k-means from `labels`; a category that loses its last member is gone."""
    labels = _tight(labels)
    for _ in range(_ROUNDS):
        moved = _tight(nearest(vectors, _centres(vectors, labels)))
        if np.array_equal(moved, labels):
            break
        labels = moved
    return labels


def _silhouette(vectors: Vectors, labels: Labels) -> float:
    """Mean silhouette with distance 1 - cosine, exact: means over members are products of sums."""
    rows = np.arange(len(vectors))
    sizes = np.bincount(labels)
    if len(sizes) < 2:
        return 0.0
    alike = vectors @ _sums(vectors, labels).T
    others = sizes[labels] - 1
    own = 1 - (alike[rows, labels] - 1) / np.maximum(others, 1)
    distances = 1 - alike / sizes
    distances[rows, labels] = np.inf
    next_best = distances.min(axis=1)
    scores = (next_best - own) / np.maximum(np.maximum(own, next_best), 1e-9)
    return float(np.where(others > 0, scores, 0.0).mean())


def _graph(vectors: Vectors) -> Any:
    """Cosines between each vector and its ten nearest, made symmetric; a sparse matrix."""
    from scipy.sparse import csr_array

    alike = np.maximum(vectors @ vectors.T, 0)
    np.fill_diagonal(alike, 0)
    count = min(_NEIGHBOURS, len(vectors) - 1)
    least = np.partition(alike, -count, axis=1)[:, -count][:, None]
    kept = csr_array(np.where(alike >= least, alike, 0))
    return (kept + kept.T) / 2


def _modularity(graph: Any, labels: Labels) -> float:
    total = float(graph.sum())
    if total == 0:
        return 0.0
    members = _members(labels)
    shares = (members.T @ graph @ members).toarray() / total
    return float(np.trace(shares) - (shares.sum(axis=1) ** 2).sum())
