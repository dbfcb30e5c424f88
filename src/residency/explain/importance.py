"""Why a word mattered: the model is asked again without it.

Attention does not answer this: multiplied up through the layers (rollout) nearly all of it ends at
the first token (docs/log.md). Leaving a word out asks the model itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """Tokens `start` to before `end` left out: the answer's probability becomes `share` instead of
    what it was, and the likeliest token is `instead`. `bits` says how many times likelier the word
    made the answer, as a power of two; below 0 it spoke against it."""

    start: int
    end: int
    share: float
    bits: float
    instead: int


def leave_out(
    model: Any, ids: Sequence[int], words: Sequence[tuple[int, int]], logits: Tensor
) -> tuple[Effect, ...]:
    """What the likeliest next token, by `logits` (vocabulary), owes to each word.

    All texts are one batch, filled up at the end, where a model that reads from left to right does
    not look. Batches that share what comes before their first word take as long: each goes through
    all weights again. Nothing for a text of one word.
    """
    words = [(start, end) for start, end in words if end - start < len(ids)]
    if not words:
        return ()
    answer, before = int(logits.argmax()), logits.log_softmax(dim=-1)
    found = []
    for (start, end), after in zip(words, _without(model, ids, words), strict=True):
        lost = float(before[answer] - after[answer])
        found.append(
            Effect(
                start=start,
                end=end,
                share=float(after[answer].exp()),
                bits=lost / math.log(2),
                instead=int(after.argmax()),
            )
        )
    return tuple(found)


def _without(model: Any, ids: Sequence[int], words: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
    """Log-probabilities of the next token (vocabulary) without each of `words`."""
    import torch

    sizes = [end - start for start, end in words]
    least = min(sizes)
    rows = [[*ids[:start], *ids[end:], *ids[: end - start - least]] for start, end in words]
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor(rows),
            use_cache=False,
            logits_to_keep=max(sizes) - least + 1,
        ).logits.float()
    for row, size in zip(logits, sizes, strict=True):
        yield row[-1 - (size - least)].log_softmax(dim=-1)
