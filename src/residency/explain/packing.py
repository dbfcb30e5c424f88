"""Arrays of numbers as short text inside a page: 16-bit steps between a least and a largest value.

Half a step is 1/131,068 of the range: of scores between -10 and 10 that is 0.00015, and as much of
the attention that they give.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEPS = 65534
LEAST_STEP = 1e-30
"""Of a range that is narrower than 32-bit floats can divide, or none at all."""


def pack(values: NDArray[Any], keep: int = 0) -> dict[str, Any]:
    """`values` with a range of its own for each place of its first `keep` axes.

    `data` are unsigned 16-bit numbers, `low` and `step` 32-bit floats, all little-endian in base64:
    a value is low + step * number. Values must be finite.
    """
    rows = values.reshape(*values.shape[:keep], -1).astype(np.float64)
    low = rows.min(axis=-1, keepdims=True)
    step = np.maximum((rows.max(axis=-1, keepdims=True) - low) / STEPS, LEAST_STEP)
    # Rounded first, so that what is read back is what was meant.
    low, step = low.astype("<f4"), step.astype("<f4")
    codes = np.clip(np.rint((rows - low) / step), 0, STEPS)
    return {
        "shape": list(values.shape),
        "low": _text(low),
        "step": _text(step),
        "data": _text(codes.astype("<u2")),
    }


def pack_scores(scores: NDArray[np.float32]) -> dict[str, Any]:
    """Scores (layers, heads, T, T) of which each row has a range of its own, and only what lies on
    or below the diagonal; a score of minus infinity has the number after the last step."""
    rows, columns = np.tril_indices(scores.shape[-1])
    finite = np.isfinite(scores)
    low = np.where(finite, scores, np.inf).min(axis=-1).astype("<f4")
    high = np.where(finite, scores, -np.inf).max(axis=-1)
    step = np.maximum((high - low.astype(np.float64)) / STEPS, LEAST_STEP).astype("<f4")
    values = scores[:, :, rows, columns]
    with np.errstate(invalid="ignore"):
        codes = np.rint((values - low[:, :, rows].astype(np.float64)) / step[:, :, rows])
    codes = np.where(np.isfinite(values), np.clip(codes, 0, STEPS), STEPS + 1)
    return {
        "shape": list(scores.shape),
        "low": _text(low),
        "step": _text(step),
        "data": _text(codes.astype("<u2")),
    }


def unpack(packed: dict[str, Any]) -> NDArray[np.float32]:
    """What `pack` was given, to half a step."""
    codes, low, step = (
        np.frombuffer(base64.b64decode(packed[name]), kind)
        for name, kind in (("data", "<u2"), ("low", "<f4"), ("step", "<f4"))
    )
    rows = codes.reshape(len(low), -1).astype(np.float64)
    values = low[:, None] + step[:, None].astype(np.float64) * rows
    return values.reshape(packed["shape"]).astype(np.float32)


def _text(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
