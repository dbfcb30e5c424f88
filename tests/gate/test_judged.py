from __future__ import annotations

from pathlib import Path

import pytest

from residency.config import Endpoint
from residency.gate.judged import judge_all
from tests.fakes.engine import FakeEngine
from tests.gate.results import conversation, mark_all


def test_only_answers_that_changed_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {
        "base-f16": ["b"] * 4,
        "f16": ["a"] * 4,
        "Q8_0": ["a", "a", "a", "b"],
        "api": ["c", "c"],
    }
    cases = [conversation("Which?", "a", line=n) for n in range(4)]
    marked = mark_all("label", ["a"] * 4, texts)
    api = FakeEngine()
    monkeypatch.setenv("RESIDENCY_TEST_KEY", api.key)
    api.start()
    try:
        # It says what it is asked, and so, last of all, "verdict: tie".
        given = Endpoint(url=api.url, model="echo", key_variable="RESIDENCY_TEST_KEY")
        found = judge_all(given, marked, cases, tmp_path / "kept")
    finally:
        api.stop()
    counts = {name: (row["against"], row["tie"]) for name, row in found["rows"].items()}
    assert counts == {"f16": ("api", 2), "Q8_0": ("f16", 1)}
    assert found["agreement"]["n"] == 3
