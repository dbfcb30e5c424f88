"""What a build's answers are worth as a whole, each figure with its 95% interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq

from residency.gate import intervals
from residency.gate.score import Kind, fold, parse_object, same, same_json
from residency.refusals import refuses
from residency.repetition import repeats
from residency.types import Rate
from residency.words import words

_Counts = NDArray[np.float64]


def measure(kind: Kind, answers: Sequence[str], references: Sequence[str]) -> dict[str, Rate]:
    """The figures for answers of `kind`, by name.

    All have `accuracy`, `refusals`, `repetition` and `length` (tokens of the answer for each of the
    reference's; the one figure that may pass 1). Labels have `macro_f1`, JSON has `field_f1` and
    `valid_json`, text has `rouge_l`.
    """
    pairs = list(zip(answers, references, strict=True))
    found = {"accuracy": intervals.rate([same(kind, a, r) for a, r in pairs])}
    if kind == "label":
        found["macro_f1"] = macro_f1(answers, references)
    elif kind == "json":
        found["field_f1"] = field_f1(answers, references)
        found["valid_json"] = intervals.rate([parse_object(a) is not None for a in answers])
    else:
        found["rouge_l"] = intervals.mean([rouge_l(a, r) for a, r in pairs])
    found["refusals"] = intervals.rate([refuses(a) for a in answers])
    found["repetition"] = intervals.rate([repeats(a) for a in answers])
    found["length"] = length(answers, references)
    return found


def macro_f1(answers: Sequence[str], references: Sequence[str]) -> Rate:
    """The mean over the references' labels of each one's F1 (Sokolova and Lapalme 2009).

    A label that occurs only in answers lowers the precision of none and has no F1 of its own.
    """
    labels = sorted({fold(reference) for reference in references})
    rights = np.array([[fold(r) == label for label in labels] for r in references], dtype=float)
    given = np.array([[fold(a) == label for label in labels] for a in answers], dtype=float)
    counts = np.stack([rights * given, rights + given], axis=1)
    return _sure(_resampled(counts, lambda total: float(_f1(total[0], total[1]).mean())))


def field_f1(answers: Sequence[str], references: Sequence[str]) -> Rate:
    """F1 of (field, value) over all answers together; what is no JSON object has no fields."""
    counts = [
        _fields(parse_object(a) or {}, parse_object(r) or {})
        for a, r in zip(answers, references, strict=True)
    ]
    whole = np.array(counts, dtype=float)
    return _sure(_resampled(whole, lambda total: float(_f1(total[0], total[1]))))


def rouge_l(answer: str, reference: str) -> float:
    """F1 of the longest common subsequence of tokens (Lin 2004), in 0..1.

    Our own, as rouge-score drops what is not Latin; each Chinese character is a token.
    """
    left, right = words(answer), words(reference)
    if not left or not right:
        return float(left == right)
    return 2 * int(LCSseq.similarity(left, right)) / (len(left) + len(right))


def length(answers: Sequence[str], references: Sequence[str]) -> Rate:
    """Tokens of all answers for each token of all references."""
    counts = [(len(words(a)), len(words(r))) for a, r in zip(answers, references, strict=True)]
    return _resampled(
        np.array(counts, dtype=float), lambda total: float(total[0] / max(total[1], 1.0))
    )


def _fields(ours: dict[str, Any], right: dict[str, Any]) -> tuple[int, int]:
    shared = sum(same_json(ours[name], right[name]) for name in ours.keys() & right.keys())
    return shared, len(ours) + len(right)


def _f1(shared: Any, both: Any) -> Any:
    """F1 from what is right and from what was given and wanted together; 1 where that is nothing:
    nothing was wanted, and nothing given."""
    return np.where(both > 0, 2 * shared / np.maximum(both, 1), 1.0)


def _resampled(counts: _Counts, figure: Callable[[_Counts], float]) -> Rate:
    """The `figure` of the summed `counts`, a case a row, with its percentile bootstrap interval."""
    n = len(counts)
    if n == 0:
        return intervals.wilson(0.0, 0)
    generator = np.random.default_rng(intervals.SEED)
    drawn = [
        figure(counts[generator.integers(n, size=n)].sum(axis=0))
        for _ in range(intervals.RESAMPLES)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    value = figure(counts.sum(axis=0))
    return Rate(value=value, low=min(value, float(low)), high=max(value, float(high)), n=n)


def _sure(rate: Rate) -> Rate:
    """A share; of Wilson's interval where all draws were equal, as a bootstrap then claims too much
    (see `intervals.mean`)."""
    return rate if rate.low < rate.high else intervals.wilson(rate.value, rate.n)
