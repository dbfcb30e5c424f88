"""Did the specialist forget what its base model knew? Asked by the questions of general kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from residency.gate import intervals
from residency.gate.answers import Answer
from residency.gate.statistics import mcnemar
from residency.general import questions, right
from residency.types import to_dict

MAX_TOKENS = 64


def compare(base: Sequence[Answer], specialist: Sequence[Answer]) -> dict[str, Any]:
    """How many both got right, the specialist's gain, and McNemar's p-value; see `statistics`."""
    suite = questions()
    before = right([answer.text for answer in base], suite)
    after = right([answer.text for answer in specialist], suite)
    return {
        "base": to_dict(intervals.rate(before)),
        "specialist": to_dict(intervals.rate(after)),
        "gain": to_dict(intervals.gain(after, before)),
        "p": mcnemar(after, before),
        "lost": [
            case.question
            for case, had, has in zip(suite, before, after, strict=True)
            if had and not has
        ],
    }
