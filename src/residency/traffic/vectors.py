"""Vectors of texts, kept from one report to the next in WORKSPACE/.residency/vectors.npz.

What a text said can be guessed from its vector, so erasing removes this file too.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from residency.models.encoder import WIDTH, Encoder
from residency.store import storage_errors

PLACE = ".residency/vectors.npz"
_DIGEST = 16  # bytes


class Vectors:
    """Vectors by `encoder`, which encodes only what the last report did not."""

    def __init__(self, workspace: Path, encoder: Encoder) -> None:
        self._encoder = encoder
        self._path = workspace / PLACE
        self._known = _read(self._path, encoder.identity)
        self._asked: set[bytes] = set()

    def of(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text, of length 1."""
        digests = [blake2b(t.encode(errors="replace"), digest_size=_DIGEST).digest() for t in texts]
        self._asked.update(digests)
        if new := {d: t for d, t in zip(digests, texts, strict=True) if d not in self._known}:
            self._known |= zip(new, self._encoder.encode(list(new.values())), strict=True)
        return np.array([self._known[one] for one in digests]).reshape(-1, WIDTH)

    def keep(self) -> None:
        """Leave what was asked for to the next report, and nothing else: the file does not grow.

        Raises `StorageError`.
        """
        digests = np.frombuffer(b"".join(sorted(self._asked)), dtype=f"V{_DIGEST}")
        vectors = np.array([self._known[one] for one in sorted(self._asked)])
        with storage_errors(self._path):
            self._path.parent.mkdir(exist_ok=True)
            self._path.touch(0o600)
            np.savez(self._path, encoder=self._encoder.identity, digests=digests, vectors=vectors)


def _read(path: Path, identity: str) -> dict[bytes, NDArray[np.float32]]:
    """None where the file is lost, damaged or another encoder's."""
    try:
        with np.load(path) as kept:
            if kept["encoder"] != identity:
                return {}
            return dict(zip(map(bytes, kept["digests"]), kept["vectors"], strict=True))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return {}
