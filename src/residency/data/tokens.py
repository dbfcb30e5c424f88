"""How long the rows are to the base model, and which are too long to learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from residency.models.chat import render, takes_tools, without_oldest
from residency.progress import track
from residency.types import Conversation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True, slots=True)
class Length:
    """Tokens of one row: its prompt with all that the template adds, and its answer."""

    prompt: int
    answer: int

    @property
    def whole(self) -> int:
        return self.prompt + self.answer


def measure(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Conversation]) -> list[Length]:
    """The length of each row as it is trained on. Raises `ModelError` as `chat.render` does."""
    found = []
    for row in track(rows, "counting tokens"):
        learnt = render(tokenizer, row.messages, answer=True, tools=row.tools).learnt
        found.append(Length(prompt=learnt.count(False), answer=learnt.count(True)))
    return found


def without_unread_tools(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Conversation]
) -> tuple[list[Conversation], dict[str, int]]:
    """`rows` as they can be taught and served where the chat template leaves tools out: without
    them, and without the rows whose answer is a call. The counts of both, if there are tools.

    What the model is never shown must not tell two rows apart.
    """
    having = sum(bool(row.tools) for row in rows)
    if not having or takes_tools(tokenizer):
        return list(rows), {}
    kept = [replace(row, tools=()) for row in rows if row.spoken]
    return kept, {"tools_left_out": having, "calls_left_out": len(rows) - len(kept)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitting:
    """The rows that are short enough, with their lengths; the sources of those that lost their
    oldest turns for it, and of those that are too long all the same."""

    rows: list[Conversation]
    lengths: list[Length]
    shortened: list[str]
    too_long: list[str]


def fit(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Conversation], most: int) -> Fitting:
    """Bring `rows` to at most `most` tokens each.

    Neither an answer is cut, of which half would be learnt as a whole, nor its question, whose
    beginning may be what it answers.
    """
    found = Fitting(rows=[], lengths=[], shortened=[], too_long=[])
    for row, length in zip(rows, measure(tokenizer, rows), strict=True):
        if length.whole <= most:
            found.rows.append(row)
            found.lengths.append(length)
        elif kept := without_oldest(tokenizer, row.messages, most, row.tools):
            found.rows.append(replace(row, messages=kept))
            found.lengths.extend(measure(tokenizer, found.rows[-1:]))
            found.shortened.append(row.source)
        else:
            found.too_long.append(row.source)
    return found


def spread(values: Sequence[int]) -> dict[str, int]:
    """Median, 95th percentile (nearest rank) and largest of some numbers."""
    ordered = sorted(values) or [0]

    def rank(share: float) -> int:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    return {"p50": rank(0.5), "p95": rank(0.95), "max": ordered[-1]}
