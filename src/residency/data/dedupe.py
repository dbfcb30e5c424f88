"""Rows that say the same: the very same are dropped, the nearly same are kept together.

Near-duplicates stay, as they teach something; but a group of them must not be split over training
and test, or the test asks what was taught.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from residency.near_duplicates import canonical, normalised
from residency.types import Conversation, to_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Deduped:
    """`duplicates` and `contradictions` are pairs of sources: the row dropped, the row kept."""

    rows: list[Conversation]
    duplicates: list[tuple[str, str]]
    contradictions: list[tuple[str, str]]


def compared(row: Conversation) -> str:
    """The text in which near-duplicates are looked for: all that was said before the answer.

    In a dialogue the last question alone is often no more than "yes, please".
    """
    return normalised("\n".join(m.said for m in row.prompt if m.role != "system"))


def question_key(row: Conversation) -> str:
    """What rows that ask the very same have in common."""
    said = "\0".join(f"{m.role}\1{normalised(m.said)}" for m in row.prompt)
    return f"{said}\0tools\1{to_json(row.tools)}" if row.tools else said


def drop_repeated(rows: Sequence[Conversation]) -> Deduped:
    """Keep the first row of each question; a later one with another answer contradicts it."""
    kept: dict[str, Conversation] = {}
    duplicates: list[tuple[str, str]] = []
    contradictions: list[tuple[str, str]] = []
    for row in rows:
        first = kept.setdefault(question_key(row), row)
        if first is not row:
            same = canonical(first.answer) == canonical(row.answer)
            (duplicates if same else contradictions).append((row.source, first.source))
    return Deduped(rows=list(kept.values()), duplicates=duplicates, contradictions=contradictions)
