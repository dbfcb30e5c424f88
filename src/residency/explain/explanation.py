"""All that the page says of one text, as numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from residency.errors import InputError
from residency.explain import anatomy, heads, importance, inside, recording
from residency.explain.heads import Floats, Heads
from residency.explain.importance import Effect
from residency.explain.inside import Attention, Firing, Norms, Rotation
from residency.explain.pieces import Piece, Reader, words
from residency.explain.readout import Lens, Readout, lens

if TYPE_CHECKING:
    from residency.explain.model import Opened

MOST_TOKENS = 96
_SCORES = 2_000_000  # that the page may hold: 4 MB
NEAR = 4
"""Tokens of the vocabulary whose embeddings are nearest, for each of the text."""
STRIP = 48
"""First dimensions of an embedding that the page draws."""
_TWINS = 2  # pairs of places that are shown
_NO = {
    "attention": "the attention of this architecture is more than a softmax over q·k",
    "rotation": "this architecture puts positions in without turning pairs of halves",
    "norms": "no norm stands before the attention of this architecture",
    "firing": "this architecture has several feed-forwards in a layer, or another kind of one",
    "lens": "this architecture does more after its last layer than a norm and one matrix",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Embeddings:
    """`first` (T, STRIP) dimensions of the tokens' vectors; `near` (T, NEAR) are the tokens whose
    vectors point most alike, other than itself, with their `cosine` (T, NEAR)."""

    first: Floats
    near: NDArray[np.int_]
    cosine: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Twins:
    """One token at two places of the text: how alike the stream is there (cosine), before the first
    layer and after each. It is 1 at first: the same token has the same embedding."""

    one: int
    other: int
    cosine: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """What the model did with `text`. Parts that cannot be shown are None, and `missing` has the
    reason by the part's name. `logits` (vocabulary) follow the last token."""

    text: str
    pieces: tuple[Piece, ...]
    embeddings: Embeddings
    twins: tuple[Twins, ...]
    rotation: Rotation | None
    attention: Attention | None
    heads: Heads | None
    norms: Norms | None
    firing: Firing | None
    lens: Lens | None
    logits: Floats
    effects: tuple[Effect, ...]
    seconds: float
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def answer(self) -> int:
        """The likeliest next token."""
        return int(self.logits.argmax())

    def likeliest(self, most: int) -> list[tuple[int, float]]:
        """The likeliest next tokens with their probabilities."""
        shares = np.exp(self.logits.astype(np.float64) - self.logits.max())
        order = np.argsort(-self.logits, kind="stable")[:most]
        return [(int(token), float(shares[token] / shares.sum())) for token in order]


def limit(layers: int, heads: int) -> int:
    """The most tokens of a text, so that its page keeps to a few megabytes."""
    return min(MOST_TOKENS, int((2 * _SCORES / (layers * heads)) ** 0.5))


def explain(opened: Opened, text: str) -> Explanation:
    """Read `text` and show all. Raises `InputError` where it is too short or too long."""
    import torch

    start = time.perf_counter()
    ids = opened.tokenizer(text)["input_ids"]
    most = limit(opened.shape.layers, opened.shape.heads)
    if not 3 <= len(ids) <= most:
        raise InputError(
            f"a text of {len(ids)} tokens; from 3 to {most} can be shown of this model",
            hint="give one or two sentences",
        )
    with torch.no_grad():
        found = _read(opened, ids)
    return Explanation(**found, text=text, seconds=time.perf_counter() - start)


def _read(opened: Opened, ids: list[int]) -> dict[str, Any]:
    """The fields of an explanation."""
    parts = anatomy.find(opened.model)
    seen = recording.record(opened.model, parts, ids)
    assert seen.logits is not None
    pieces = Reader(opened.tokenizer).pieces(ids)
    attention = inside.attention(seen)
    norm = parts.blocks[0].norm
    readout = Readout(opened.model, parts)
    found: dict[str, Any] = {
        "attention": attention,
        "rotation": inside.rotation(seen, parts.halves),
        "norms": inside.norms(seen, type(norm).__name__),
        "firing": inside.firing(seen),
        "lens": lens(readout, seen.states, seen.logits) if readout.holds(seen) else None,
    }
    return {
        **found,
        "pieces": pieces,
        "embeddings": _embeddings(opened.model, ids, seen.states[0]),
        "twins": _twins(pieces, seen.states),
        "heads": heads.look(attention.weights) if attention else None,
        "logits": seen.logits[-1].numpy(),
        "effects": importance.leave_out(opened.model, ids, words(pieces), seen.logits[-1]),
        "missing": {name: why for name, why in _NO.items() if found[name] is None},
    }


def _embeddings(model: Any, ids: list[int], state: Any) -> Embeddings:
    """What goes into the first layer; neighbours by the matrix that it was looked up in."""
    import torch

    matrix = model.get_input_embeddings().weight.detach().float()
    rows = torch.tensor(ids)
    own = matrix[rows]
    sizes = torch.linalg.vector_norm(matrix, dim=-1).clamp_min(1e-9)
    cosine = own @ matrix.T / sizes / sizes[rows, None]
    cosine[torch.arange(len(ids)), rows] = -1.0
    best = cosine.topk(NEAR, dim=-1)
    return Embeddings(
        first=np.asarray(state[:, :STRIP].float().numpy()),
        near=best.indices.numpy(),
        cosine=best.values.numpy(),
    )


def _twins(pieces: tuple[Piece, ...], states: list[Any]) -> tuple[Twins, ...]:
    import torch

    places: dict[int, list[int]] = {}
    for place, piece in enumerate(pieces):
        if piece.text.strip().isalpha():
            places.setdefault(piece.id, []).append(place)
    found = []
    # Tokenizers number their tokens by how common they are: the rarest, which mean most, first.
    for _, same in sorted(places.items(), reverse=True):
        for other in same[1:]:
            cosine = [
                float(torch.cosine_similarity(state[same[0]], state[other], dim=0))
                for state in states
            ]
            found.append(Twins(one=same[0], other=other, cosine=tuple(cosine)))
    return tuple(found[:_TWINS])
