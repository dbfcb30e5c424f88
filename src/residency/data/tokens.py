"""How long the rows are to the base model, and which are too long to learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from residency.models.chat import render
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
        learnt = render(tokenizer, row.messages, answer=True).learnt
        found.append(Length(prompt=learnt.count(False), answer=learnt.count(True)))
    return found


def spread(values: Sequence[int]) -> dict[str, int]:
    """Median, 95th percentile (nearest rank) and largest of some numbers."""
    ordered = sorted(values) or [0]

    def rank(share: float) -> int:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    return {"p50": rank(0.5), "p95": rank(0.95), "max": ordered[-1]}
