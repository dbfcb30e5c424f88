"""Rows to tensors, without computing twice what the rows of a batch share.

Rows of one task begin with the same system message. In a batch they stand in one sequence: that
beginning once, then what is each row's own, and a mask that keeps rows apart. Loss and gradients
are those of rows side by side; the shared tokens and all padding are saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

IGNORED = -100
# Attention over a sequence grows with its square: past this length rows lie side by side.
_ONE_SEQUENCE = 1024

Row = Mapping[str, Sequence[int]]


def common_start(start: Sequence[int] | None, row: Row) -> Sequence[int]:
    """What of `start` (None: of the whole row) `row` begins with too, up to the token before the
    first that it has to learn: that one predicts an answer, so it stays with its row."""
    labels = row["labels"]
    limit = next((i for i, label in enumerate(labels) if label != IGNORED), len(labels))
    own = row["input_ids"][: max(0, limit - 1)]
    if start is None or own[: len(start)] == start:
        return own if start is None else start
    differs = next(
        (i for i, (a, b) in enumerate(zip(start, own, strict=False)) if a != b), len(own)
    )
    return start[: min(differs, len(start))]


def shared_prefix(rows: Iterable[Row]) -> int:
    """How many tokens all `rows` begin with, less one before the first that any has to learn."""
    start: Sequence[int] | None = None
    for row in rows:
        start = common_start(start, row)
    return len(start or ())


class Batches:
    """Makes a batch of rows, whose first `prefix` tokens are the same, into a model's inputs.

    A batch has `input_ids`, `position_ids` and `labels`, all (rows, tokens), and an
    `attention_mask` of (rows, 1, tokens, tokens), true where a token (third) sees another (fourth).
    `labels` holds at each place the token that comes next, or -100 where nothing is learnt.
    """

    def __init__(self, prefix: int) -> None:
        self.prefix = prefix

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        import torch

        total = self.prefix + sum(len(row["input_ids"]) - self.prefix for row in rows)
        groups = [rows] if total <= _ONE_SEQUENCE else [[row] for row in rows]
        sequences = [self._sequence(group) for group in groups]
        width = max(len(one["input_ids"]) for one in sequences)
        padding = {"input_ids": 0, "position_ids": 0, "labels": IGNORED, "segment": -1}
        made = {
            name: torch.tensor([one[name] + [fill] * (width - len(one[name])) for one in sequences])
            for name, fill in padding.items()
        }
        return {**made, "attention_mask": _mask(made.pop("segment"))}

    def _sequence(self, rows: Sequence[Row]) -> dict[str, list[int]]:
        """The shared beginning (segment 0), then each row's own part (segments from 1)."""
        start = self.prefix
        ids, positions = list(rows[0]["input_ids"][:start]), list(range(start))
        labels, segment = [IGNORED] * start, [0] * start
        for number, row in enumerate(rows, 1):
            own = row["input_ids"][start:]
            ids += own
            positions += range(start, start + len(own))
            labels += [*row["labels"][start + 1 :], IGNORED]
            segment += [number] * len(own)
        return {"input_ids": ids, "position_ids": positions, "labels": labels, "segment": segment}


def _mask(segment: Any) -> Any:
    """Each token sees itself, and what stands before it in its own segment or in segment 0."""
    import torch

    own, other = segment[:, :, None], segment[:, None, :]
    before = torch.ones(segment.shape[1], segment.shape[1], dtype=torch.bool).tril()
    # Padding sees itself alone: a row of a mask that is all false gives no number.
    itself = torch.eye(segment.shape[1], dtype=torch.bool)
    return ((before & ((own == other) | (other == 0)) & (own >= 0)) | itself)[:, None]
