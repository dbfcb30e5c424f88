from __future__ import annotations

import base64

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from residency.explain.packing import LEAST_STEP, STEPS, pack, pack_scores, unpack


@example([0.0] * 11 + [5.825994896704748e-28], 0)  # narrower than its steps may be
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=12, max_size=12), st.integers(0, 2))
def test_what_is_packed_comes_back_to_half_a_step(numbers: list[float], keep: int) -> None:
    values = np.array(numbers, dtype=np.float32).reshape(2, 2, 3)
    rows = values.reshape(*values.shape[:keep], -1)
    spread = (rows.max(axis=-1) - rows.min(axis=-1)).astype(np.float64)
    error = np.abs(unpack(pack(values, keep)).astype(np.float64) - values)
    worst = error.reshape(*values.shape[:keep], -1).max(axis=-1)
    step = np.maximum(spread / STEPS, LEAST_STEP)
    assert (worst <= 0.51 * step + 2e-7 * np.abs(values).max()).all()


def test_scores_keep_what_may_not_be_seen_apart() -> None:
    scores = np.full((1, 1, 3, 3), -np.inf, dtype=np.float32)
    scores[0, 0, 0, 0], scores[0, 0, 1, :2], scores[0, 0, 2, 1:] = 5, (-3, 4), (0.25, 100)
    packed = pack_scores(scores)
    codes = np.frombuffer(base64.b64decode(packed["data"]), "<u2")
    low = np.frombuffer(base64.b64decode(packed["low"]), "<f4")
    step = np.frombuffer(base64.b64decode(packed["step"]), "<f4")
    row = np.array([0, 1, 1, 2, 2, 2])
    back = np.where(codes == STEPS + 1, -np.inf, low[row] + step[row] * codes)
    np.testing.assert_allclose(back, [5, -3, 4, -np.inf, 0.25, 100], atol=1e-3)
