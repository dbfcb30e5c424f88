from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from residency.models.encoder import Encoder
from residency.traffic.vectors import PLACE, Vectors

TEXTS = ["pay my bill", "什么时候到货", "pay my bill", ""]


class Counting(Encoder):
    """Remembers what it encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.encoded += texts
        return super().encode(texts)


@pytest.fixture
def encoder() -> Counting:
    return Counting()


def test_a_text_is_encoded_once_and_its_vector_kept(tmp_path: Path, encoder: Counting) -> None:
    first = Vectors(tmp_path, encoder)
    found = first.of(TEXTS)
    assert encoder.encoded == list(dict.fromkeys(TEXTS))
    first.keep()
    second = Vectors(tmp_path, encoder)
    assert np.array_equal(second.of(TEXTS[::-1]), found[::-1])
    assert len(encoder.encoded) == 3
    assert second.of([]).shape == (0, found.shape[1])


def test_what_was_not_asked_for_again_goes(tmp_path: Path, encoder: Counting) -> None:
    for texts in (TEXTS, TEXTS[:1], TEXTS[:2]):
        vectors = Vectors(tmp_path, encoder)
        vectors.of(texts)
        vectors.keep()
    assert encoder.encoded == [*dict.fromkeys(TEXTS), TEXTS[1]]
    assert (tmp_path / PLACE).stat().st_mode & 0o77 == 0


def test_another_encoder_and_damage_start_anew(tmp_path: Path, encoder: Counting) -> None:
    first = Vectors(tmp_path, encoder)
    first.of(TEXTS[:1])
    first.keep()
    whole = (tmp_path / PLACE).read_bytes()
    for kept in (whole[:-30], b""):
        (tmp_path / PLACE).write_bytes(kept)
        Vectors(tmp_path, encoder).of(TEXTS[:1])
    (tmp_path / PLACE).write_bytes(whole)
    encoder.identity = "another"
    Vectors(tmp_path, encoder).of(TEXTS[:1])
    assert encoder.encoded == TEXTS[:1] * 4
