from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.traffic import clusters
from residency.traffic.clusters import discover, nearest


def blobs(groups: int, each: int, seed: int = 0, width: int = 32) -> tuple:
    """Points around far centres, all of length 1, and which centre each is around."""
    chance = np.random.default_rng(seed)
    truth = np.repeat(np.arange(groups), each)
    around = np.eye(width)[truth] + chance.normal(scale=0.1, size=(groups * each, width))
    return (around / np.linalg.norm(around, axis=1, keepdims=True)).astype(np.float32), truth


def agree(labels: np.ndarray, truth: np.ndarray) -> bool:
    pairs = set(zip(labels.tolist(), truth.tolist(), strict=True))
    return len(pairs) == len(set(labels.tolist())) == len(set(truth.tolist()))


@pytest.mark.parametrize(("groups", "each"), [(3, 10), (8, 12), (20, 20)])
def test_clear_groups_are_found_and_counted(groups: int, each: int) -> None:
    vectors, truth = blobs(groups, each)
    assert agree(discover(vectors, np.ones(len(vectors))).labels, truth)


def test_the_heaviest_category_comes_first() -> None:
    vectors, truth = blobs(4, 10)
    found = discover(vectors, np.where(truth == 2, 50, 1))
    assert set(found.labels[truth == 2].tolist()) == {0}


def test_past_the_sample_vectors_join_the_nearest_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_SAMPLE", 60)
    vectors, truth = blobs(5, 60)
    found = discover(vectors, np.ones(len(vectors)))
    assert agree(found.labels, truth)
    assert found.labels.tolist() == nearest(vectors, found.centres).tolist()


def test_the_number_with_the_best_score_is_taken() -> None:
    vectors, _ = blobs(6, 10)
    found = discover(vectors, np.ones(len(vectors)))
    assert max(found.tried, key=lambda number: found.tried[number]) == len(found.centres) == 6


@pytest.mark.parametrize("count", [1, 7])
def test_too_few_to_choose_are_one_category(count: int) -> None:
    found = discover(blobs(count, 1)[0], np.ones(count))
    assert found.labels.tolist() == [0] * count
    assert found.tried == {}


def test_all_the_same_is_one_category() -> None:
    vectors = np.tile(np.eye(4, dtype=np.float32)[0], (40, 1))
    assert set(discover(vectors, np.ones(40)).labels.tolist()) == {0}


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(0, 1000))
def test_labels_are_rows_of_centres_and_repeat(count: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    one, other = (discover(vectors, np.ones(count), seed=seed) for _ in range(2))
    assert sorted(set(one.labels.tolist())) == list(range(len(one.centres)))
    assert one.labels.tolist() == other.labels.tolist()


def test_silhouette_is_its_definition() -> None:
    vectors, truth = blobs(3, 5)
    apart = 1 - vectors @ vectors.T
    scores = []
    for row, label in enumerate(truth):
        others = (truth == label) & (np.arange(len(truth)) != row)
        own = apart[row, others].mean()
        best = min(apart[row, truth == other].mean() for other in range(3) if other != label)
        scores.append((best - own) / max(own, best))
    assert clusters._silhouette(vectors, truth) == pytest.approx(np.mean(scores), abs=1e-5)
