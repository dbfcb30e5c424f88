"""Rows that say the same: the very same are dropped, the nearly same are kept together.

Near-duplicates stay, as they teach something; but a group of them must not be split over training
and test, or the test asks what was taught.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from residency.near_duplicates import normalised
from residency.types import Conversation


@dataclass(frozen=True, kw_only=True, slots=True)
class Deduped:
    """`duplicates` and `contradictions` are pairs of sources: the row dropped, the row kept."""

    rows: list[Conversation]
    duplicates: list[tuple[str, str]]
    contradictions: list[tuple[str, str]]


def canonical(answer: str) -> str:
    """An answer as it is compared: JSON whatever its spacing and key order, else its text."""
    try:
        value = json.loads(answer)
    except ValueError:
        return normalised(answer)
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def compared(row: Conversation) -> str:
    """The text in which near-duplicates are looked for: all that was said before the answer.

    In a dialogue the last question alone is often no more than "yes, please".
    """
    return normalised("\n".join(m.content for m in row.prompt if m.role != "system"))


def drop_repeated(rows: Sequence[Conversation]) -> Deduped:
    """Keep the first row of each question; a later one with another answer contradicts it."""
    kept: dict[str, Conversation] = {}
    duplicates: list[tuple[str, str]] = []
    contradictions: list[tuple[str, str]] = []
    for row in rows:
        key = "\0".join(f"{m.role}\1{normalised(m.content)}" for m in row.prompt)
        first = kept.setdefault(key, row)
        if first is not row:
            same = canonical(first.answer) == canonical(row.answer)
            (duplicates if same else contradictions).append((row.source, first.source))
    return Deduped(rows=list(kept.values()), duplicates=duplicates, contradictions=contradictions)
