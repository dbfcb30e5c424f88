"""One recorded exchange: where the model was unsure, where the served build says something else
than the full model, and which training rows are nearest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from residency.engines.logits import ROWS, Logits
from residency.errors import DataError, MissingError
from residency.explain.pieces import Piece, Reader
from residency.models.chat import render
from residency.near_duplicates import normalised
from residency.types import Conversation, Message

if TYPE_CHECKING:
    from residency.explain.model import Opened

UNSURE = 0.5
"""A token that had less than this share was drawn, not known."""
MOST_TOKENS = 2048
"""Prompt and answer together; all heads' attention over more would fill the memory."""
NEAREST = 5
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class InBuild:
    """The same place in the build: what the token has there, and the likeliest. `divergence` is
    KL(full model || build) in nats."""

    share: float
    likeliest: Piece
    likeliest_share: float
    divergence: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """One token of the answer: the `share` that the full model gave it, and its likeliest one."""

    piece: Piece
    share: float
    likeliest: Piece
    likeliest_share: float
    build: InBuild | None

    @property
    def unsure(self) -> bool:
        return self.share < UNSURE

    @property
    def differs(self) -> bool:
        """Whether the build holds another token likeliest."""
        return self.build is not None and self.build.likeliest.id != self.likeliest.id


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A training row: how alike its question is in meaning (cosine; None without an encoder) and in
    spelling (rapidfuzz's ratio, 0 to 1). `same` where it counts as a near-duplicate."""

    source: str
    question: str
    answer: str
    meaning: float | None
    spelling: float
    same: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """`build` names the build compared with, empty where there is none; `rows` are the nearest of
    `trained` training rows."""

    source: str
    prompt: tuple[Message, ...]
    answer: tuple[Said, ...]
    build: str
    rows: tuple[Row, ...]
    trained: int


def examine(opened: Opened, one: Conversation, build: Path | None) -> tuple[Said, ...]:
    """Ask the full model, and the GGUF `build` where there is one, what they think of the recorded
    answer. Raises `DataError` where it is empty or too long, and `EngineError` for a broken build.
    """
    whole = render(opened.tokenizer, one.messages, answer=True, tools=one.tools)
    if len(whole.ids) > MOST_TOKENS:
        raise DataError(
            f"{one.source}: {len(whole.ids)} tokens; at most {MOST_TOKENS} are looked into",
            hint="take a shorter exchange",
        )
    start = whole.learnt.index(True)
    ids, reader = list(whole.ids), Reader(opened.tokenizer)
    pieces = reader.pieces(ids[start:])
    found: list[Said] = []
    for full, other in _both(opened.model, ids[:-1], start - 1, build):
        for row in range(len(full)):
            piece = pieces[len(found)]
            found.append(_said(piece, full[row], other[row] if other is not None else None, reader))
    return tuple(found)


def _both(
    model: Any, ids: list[int], first: int, build: Path | None
) -> Iterator[tuple[Floats, Floats | None]]:
    """Log-probabilities after each token of `ids` from `first` on, of model and build, some rows at
    a time."""
    import torch

    with torch.no_grad():
        made = model(
            input_ids=torch.tensor([ids]), use_cache=False, logits_to_keep=len(ids) - first
        )
    full = made.logits[0].float().numpy()
    if build is None:
        for start in range(0, len(full), ROWS):
            yield _log_shares(full[start : start + ROWS]), None
        return
    with Logits(build, context=len(ids)) as logits:
        at = 0
        for other in logits.read(ids, first):
            # Some builds pad their vocabulary, and some models theirs.
            width = min(full.shape[1], other.shape[1])
            yield (
                _log_shares(full[at : at + len(other), :width]),
                _log_shares(other[:, :width]),
            )
            at += len(other)


def _log_shares(logits: Floats) -> Floats:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _said(piece: Piece, full: Floats, other: Floats | None, reader: Reader) -> Said:
    best = int(full.argmax())
    build = None
    if other is not None:
        its = int(other.argmax())
        build = InBuild(
            share=float(np.exp(other[piece.id])),
            likeliest=reader.piece(its),
            likeliest_share=float(np.exp(other[its])),
            divergence=max(0.0, float(np.exp(full) @ (full - other))),
        )
    return Said(
        piece=piece,
        share=float(np.exp(full[piece.id])),
        likeliest=reader.piece(best),
        likeliest_share=float(np.exp(full[best])),
        build=build,
    )


def nearest(one: Conversation, rows: Sequence[Conversation], near: float) -> tuple[Row, ...]:
    """The training rows whose question is most like this one's; from the spelling `near` on they
    count as the same. By meaning where the encoder is on this machine, else by spelling."""
    from rapidfuzz.fuzz import ratio

    if not rows:
        return ()
    asked = normalised(one.question)
    spelling = [ratio(asked, normalised(row.question)) / 100 for row in rows]
    meaning = _meaning(one.question, [row.question for row in rows])
    order = np.argsort([-x for x in (spelling if meaning is None else meaning)], kind="stable")
    return tuple(
        Row(
            source=rows[n].source,
            question=rows[n].question,
            answer=rows[n].answer,
            meaning=None if meaning is None else float(meaning[n]),
            spelling=spelling[n],
            same=spelling[n] >= near,
        )
        for n in map(int, order[:NEAREST])
    )


def _meaning(asked: str, questions: list[str]) -> list[float] | None:
    from residency.models.encoder import Encoder

    try:
        vectors = Encoder().encode([asked, *questions])
    except MissingError:
        return None
    return [float(x) for x in vectors[1:] @ vectors[0]]
