from __future__ import annotations

from residency.gate.forgetting import compare
from tests.gate.results import answer
from tests.test_general import RIGHT


def test_what_was_lost_is_named() -> None:
    before = [answer(text) for text in RIGHT]
    after = [*before[:8], answer("Lyon"), *before[9:]]
    found = compare(before, after)
    assert found["base"]["value"] == 1.0
    assert found["specialist"]["value"] < 1.0
    assert found["lost"] == ["What is the capital of France?"]
    assert found["p"] == 1.0
