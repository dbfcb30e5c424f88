"""The page of an explanation: one HTML file that needs nothing beside itself."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from residency.explain.examples import Example
from residency.explain.explanation import Explanation
from residency.explain.heads import KINDS
from residency.explain.inside import FIRING, SHOWN
from residency.explain.model import Opened
from residency.explain.packing import pack, pack_scores
from residency.explain.pieces import Piece, Reader, spelt
from residency.explain.sharing import CONTEXTS, compare
from residency.pages import template
from residency.types import to_dict

NEXT = 200
"""Of the likeliest next tokens the page has the text; of all others only the logits."""


def render(opened: Opened, shown: Sequence[tuple[Example, Explanation]]) -> str:
    """The page of one model and the texts that it read, the first one open."""
    script = _file("explain.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = template("residency.explain", "explain.html.j2")
    return page.render(
        model=facts(opened),
        sharing=compare(opened.shape),
        contexts=CONTEXTS,
        kinds=KINDS,
        shown=SHOWN,
        firing=FIRING,
        titles=[example.title for example, _ in shown],
        style=_file("explain.css"),
        script=script,
        digest=digest,
        data=_json(payload(opened, shown)),
        importing=opened.importing,
        loading=opened.loading,
    )


def facts(opened: Opened) -> dict[str, Any]:
    """What the page says of the model itself."""
    shape = opened.shape
    names = ("weights", "layers", "width", "heads", "kv_heads", "head_dim", "hidden", "vocabulary")
    return {
        "name": opened.name,
        "kind": type(opened.model).__name__,
        **{name: getattr(shape, name) for name in names},
        "window": shape.window,
        "windowed": shape.windowed,
    }


def payload(opened: Opened, shown: Sequence[tuple[Example, Explanation]]) -> dict[str, Any]:
    """All numbers of the page, as its script reads them."""
    reader = Reader(opened.tokenizer)
    named = sorted({token for _, one in shown for token in _named(one)})
    return {
        "model": facts(opened),
        "kinds": KINDS,
        "words": {token: said(reader.piece(token)) for token in named},
        "texts": [_text(example, one) for example, one in shown],
    }


def said(piece: Piece) -> str:
    """A token as a person reads it: a part of a character by that and its bytes."""
    return f"{piece.of}‹{piece.bytes}›" if piece.bytes else piece.text


def _named(one: Explanation) -> set[int]:
    found = {*one.embeddings.near.ravel().tolist(), *(e.instead for e in one.effects)}
    if one.lens:
        found.update(one.lens.ids.ravel().tolist())
    return found | set(_likeliest(one))


def _likeliest(one: Explanation) -> list[int]:
    order = np.argsort(-one.logits, kind="stable")[:NEXT]
    return [int(token) for token in order]


def _text(example: Example, one: Explanation) -> dict[str, Any]:
    places = [n for n, piece in enumerate(one.pieces) if piece.text == example.focus]
    return {
        "title": example.title,
        "why": example.why,
        "text": one.text,
        "focus": places[-1] if places else len(one.pieces) - 1,
        "pieces": to_dict(one.pieces),
        "seconds": round(one.seconds, 3),
        "missing": dict(one.missing),
        "embeddings": {
            "first": pack(one.embeddings.first),
            "near": one.embeddings.near.tolist(),
            "cosine": one.embeddings.cosine.round(4).tolist(),
        },
        "twins": [{**to_dict(t), "cosine": [round(c, 4) for c in t.cosine]} for t in one.twins],
        "logits": pack(one.logits),
        "effects": [
            {**to_dict(e), "word": spelt(one.pieces[e.start : e.end])} for e in one.effects
        ],
        **_layers(one),
    }


def _layers(one: Explanation) -> dict[str, Any]:
    """The parts that an architecture may lack."""
    found: dict[str, Any] = {}
    if (a := one.attention) and (h := one.heads):
        found["attention"] = {
            "scores": pack_scores(a.scores),
            **{name: pack(getattr(a, name), 2) for name in ("query", "key", "value")},
            **{name: list(getattr(a, name)) for name in ("scaling", "softcap", "window")},
            "kinds": h.kinds.tolist(),
            "shares": h.shares.round(4).tolist(),
            "sink": h.sink.round(4).tolist(),
            "links": to_dict(h.links),
        }
    if r := one.rotation:
        found["rotation"] = {
            "frequencies": [[float(f) for f in row] for row in r.frequencies],
            **{name: getattr(r, name) for name in ("kind", "rotated", "dimensions", "pairs")},
            "keys": pack(r.keys, 2),
        }
    if n := one.norms:
        sizes = {name: pack(getattr(n, name), 2) for name in ("size_before", "size_after")}
        found["norms"] = {
            "kind": n.kind,
            "before": pack(n.before, 2),
            "after": pack(n.after, 2),
            **sizes,
        }
    if f := one.firing:
        found["firing"] = {
            "hidden": f.hidden,
            "neurons": f.neurons.tolist(),
            **{name: pack(getattr(f, name), 2) for name in ("fired", "up", "open", "most")},
            "gate": pack(f.gate, 2) if f.gate is not None else None,
        }
    if one.lens:
        found["lens"] = {
            "ids": one.lens.ids.tolist(),
            "shares": pack(one.lens.shares, 2),
            "answer": pack(one.lens.answer),
        }
    return found


def _file(name: str) -> str:
    return files("residency.explain").joinpath(name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """For a script element: nothing in it can end that."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
