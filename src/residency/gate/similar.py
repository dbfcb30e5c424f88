"""Whether two answers say the same, by a meaning that is stated for each kind of answer.

JSON is compared by its fields and a label by equality (`score`), a number by its value, and free
text by a logistic regression of what two texts share and in what they contradict each other.
scripts/fit_similarity.py fits it on one half of pairs.tsv and measures it on the other; what it
found stands in similarity.json. Texts that state other numbers are different, whatever they share.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from residency.gate.facts import Facts, exclude, facts
from residency.gate.score import Kind, Relation, relate, same, token_f1
from residency.types import is_call
from residency.words import words

FEATURES = ("overlap", "length", "cosine", "missing", "opposites", "names", "negation", "refusal")
"""Of two texts, each in 0..1: token F1, the shorter's length by the longer's, and the encoder's
cosine, which count for likeness; and against it the share of numbers that only one has, whether
they name opposites or other names, the token F1 again where one has more negations, and whether
only one declines to answer."""
FOR = FEATURES[:3]
WITHOUT_ENCODER = "free text was compared without a sentence encoder, by words alone"

_QUANTITY = re.compile(
    r"([-+]?)\s*([$€£¥]?)\s*([-+]?)(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?\s*(%|[^\W\d_]{1,12}|[$€£¥])?[.。]?"
)
_UNITS = {"percent": "%", "dollar": "$", "usd": "$", "euro": "€", "eur": "€", "yuan": "¥"}
_UNITS |= {"元": "¥", "rmb": "¥", "cny": "¥"}


class Encodes(Protocol):
    """A sentence encoder: rows of length 1. Coefficients belong to one `identity`."""

    identity: str

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """A number with its unit; percent are hundredths without one."""

    value: float
    unit: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """The fitted measure. `note` says what it had to do without; "" is nothing."""

    weights: Mapping[str, float]
    bias: float
    threshold: float
    encoder: Encodes | None
    note: str

    def relations(
        self, kind: Kind, answers: Sequence[str], others: Sequence[str]
    ) -> list[Relation]:
        """How each answer relates to the other in its place."""
        likely = self.scores(answers, others) if kind == "text" else [0.0] * len(answers)
        return [
            self._relation(kind, answer, other, score)
            for answer, other, score in zip(answers, others, likely, strict=True)
        ]

    def scores(self, ones: Sequence[str], others: Sequence[str]) -> list[float]:
        """The probability in 0..1 that two free texts say the same; 0 where numbers contradict."""
        found = features(ones, others, self.encoder)
        weights = np.array([self.weights.get(name, 0.0) for name in FEATURES])
        likely = 1 / (1 + np.exp(-(found @ weights + self.bias)))
        return [
            0.0 if contradict(one, other) else float(value)
            for one, other, value in zip(ones, others, likely, strict=True)
        ]

    def _relation(self, kind: Kind, answer: str, other: str, score: float) -> Relation:
        if kind == "json" or is_call(other) or same(kind, answer, other):
            return relate(kind, answer, other)
        ours, theirs = quantity(answer), quantity(other)
        if ours is not None and theirs is not None:
            return "exact" if same_value(ours, theirs) else "different"
        return "similar" if kind == "text" and score >= self.threshold else "different"


def load(encoder: Encodes | None) -> Measure:
    """The shipped measure, for `encoder`, or by words alone where it is None or another one than
    the coefficients were fitted with."""
    data = resources.files("residency.gate").joinpath("similarity.json")
    fitted = json.loads(data.read_text(encoding="utf-8"))
    note = WITHOUT_ENCODER
    if encoder is not None and encoder.identity != fitted["encoder"]["identity"]:
        note += f" (its coefficients are not for {encoder.identity})"
        encoder = None
    chosen = fitted["words" if encoder is None else "encoder"]
    return Measure(
        weights=chosen["weights"],
        bias=chosen["bias"],
        threshold=chosen["threshold"],
        encoder=encoder,
        note=note if encoder is None else "",
    )


def features(
    ones: Sequence[str], others: Sequence[str], encoder: Encodes | None
) -> NDArray[np.float64]:
    """`FEATURES` of each pair, a row each; without an encoder the cosine is 0."""
    found = np.array([_features(*pair) for pair in zip(ones, others, strict=True)])
    found = found.reshape(-1, len(FEATURES))
    if encoder is not None and len(ones):
        vectors = encoder.encode([*ones, *others])
        cosines = np.einsum("ij,ij->i", vectors[: len(ones)], vectors[len(ones) :])
        found[:, FEATURES.index("cosine")] = np.clip(cosines, 0, 1)
    return found


def contradict(one: str, other: str) -> bool:
    """Whether each of two texts states a number that the other does not."""
    ours, theirs = facts(one).numbers, facts(other).numbers
    return bool(ours - theirs and theirs - ours)


def quantity(text: str) -> Quantity | None:
    """The number that is the whole of `text`, or None: "1,200 km", "$3.50", "7%"."""
    found = _QUANTITY.fullmatch(unicodedata.normalize("NFKC", text).strip())
    if found is None:
        return None
    value = float(found[4].replace(",", "") + (found[5] or ""))
    unit = (found[2] or found[6] or "").casefold()
    unit = unit.removesuffix("s") if len(unit) > 2 else unit
    unit = _UNITS.get(unit, unit)
    sign = -1 if "-" in (found[1], found[3]) else 1
    if unit == "%":
        value, unit = value / 100, ""
    return Quantity(value=sign * value, unit=unit)


def same_value(one: Quantity, other: Quantity) -> bool:
    return one.unit == other.unit and math.isclose(one.value, other.value)


def _features(one: str, other: str) -> list[float]:
    ours, theirs = facts(one), facts(other)
    left, right = words(one), words(other)
    overlap = token_f1(one, other)
    numbers = ours.numbers | theirs.numbers
    shorter, longer = sorted((len(left), len(right)))
    return [
        overlap,
        shorter / longer if longer else 1.0,
        0.0,
        len(ours.numbers ^ theirs.numbers) / len(numbers) if numbers else 0.0,
        float(exclude(ours, theirs)),
        float(bool(_strange(ours, theirs, right) and _strange(theirs, ours, left))),
        overlap * (ours.negations != theirs.negations),
        float(ours.refuses != theirs.refuses),
    ]


def _strange(ours: Facts, theirs: Facts, said: Sequence[str]) -> frozenset[str]:
    """Our names that the other text, whose words are `said`, does not have in any way."""
    return ours.names - theirs.names - set(said)
