"""Words of any script, and which category a text belongs to by them alone."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np

_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")
_PLACES = 1 << 16
_SMOOTHING = 0.1


def words(text: str) -> list[str]:
    """Words in folded case; each Han character and each kana is one, as they have no spaces."""
    return _WORD.findall(text.casefold())


class ByWords:
    """Multinomial naive Bayes over hashed words (Manning, Raghavan and Schütze 2008, chapter 13).

    It costs a hundredth of an encoder, and puts into categories what is too much to encode.
    """

    def __init__(self, texts: Sequence[str], labels: Sequence[int]) -> None:
        counts = np.full((max(labels) + 1, _PLACES), _SMOOTHING, dtype=np.float32)
        for text, label in zip(texts, labels, strict=True):
            np.add.at(counts[label], _places(text), 1)
        self._scores = np.log(counts / counts.sum(axis=1, keepdims=True)).T.copy()
        self._prior = np.log(np.bincount(labels, minlength=len(counts)) + _SMOOTHING)

    def label(self, text: str) -> int:
        return int((self._scores[_places(text)].sum(axis=0) + self._prior).argmax())


def _places(text: str) -> list[int]:
    return [zlib.crc32(word.encode()) % _PLACES for word in words(text)]
