from __future__ import annotations

from pathlib import Path

import pytest

from residency.errors import StorageError
from residency.gate.answers import Answer, Asked, Timing, keep, kept, speed

ODD = 'line\u2028separator\r\n"quotes" 请\x00'


def asked(*seconds: float, tokens: int = 11) -> Asked:
    return Asked(
        answers=tuple(
            Answer(source=f"x:{i}", text=ODD, finish_reason="stop", tokens=tokens)
            for i, _ in enumerate(seconds)
        ),
        timings=tuple(Timing(ttft=0.5, seconds=s) for s in seconds),
        memory=123,
    )


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    assert kept(tmp_path, "Q8_0") is None
    keep(tmp_path, "Q8_0", asked(1.0, 2.0))
    assert kept(tmp_path, "Q8_0") == asked(1.0, 2.0)


def test_a_build_killed_before_its_answers_were_kept_has_not_finished(tmp_path: Path) -> None:
    keep(tmp_path, "Q8_0", asked(1.0))
    (tmp_path / "Q8_0.jsonl").rename(tmp_path / ".Q8_0.jsonl.77")
    assert kept(tmp_path, "Q8_0") is None


def test_damaged_answers_are_named(tmp_path: Path) -> None:
    keep(tmp_path, "Q8_0", asked(1.0))
    (tmp_path / "Q8_0.jsonl").write_text('{"source": 1', encoding="utf-8")
    with pytest.raises(StorageError, match=r"Q8_0\.jsonl: damaged"):
        kept(tmp_path, "Q8_0")


def test_speed_leaves_out_the_prompt() -> None:
    found = speed(asked(1.5, 1.5, 2.5, 5.5))  # 4 times 10 decoded tokens in 1 + 1 + 2 + 5 s
    assert found.tokens_per_second == pytest.approx(40 / 9, abs=0.01)
    assert (found.p50, found.p95, found.memory) == (1.5, 5.5, 123)


def test_p95_is_the_nearest_rank() -> None:
    assert speed(asked(*(float(n) for n in range(1, 21)))).p95 == 19.0


def test_speed_of_answers_that_are_one_token_long() -> None:
    assert speed(asked(0.5, tokens=1)).tokens_per_second == 0.0
