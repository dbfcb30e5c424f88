from __future__ import annotations

from dataclasses import replace
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


def keep_all(path: Path, given: Asked) -> None:
    with path.open("a", encoding="utf-8") as file:
        for answer, timing in zip(given.answers, given.timings, strict=True):
            keep(file, answer, timing)


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "Q8_0.jsonl"
    assert kept(path) == Asked()
    keep_all(path, asked(1.0, 2.0))
    assert replace(kept(path), memory=123) == asked(1.0, 2.0)


def test_a_line_that_a_kill_cut_off_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "Q8_0.jsonl"
    keep_all(path, asked(1.0, 2.0))
    path.write_text(path.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    assert len(kept(path).answers) == 1
    keep_all(path, asked(3.0))
    assert [timing.seconds for timing in kept(path).timings] == [1.0, 3.0]


def test_damaged_answers_are_named(tmp_path: Path) -> None:
    (tmp_path / "Q8_0.jsonl").write_text('{"source": 1}\n', encoding="utf-8")
    with pytest.raises(StorageError, match=r"Q8_0\.jsonl: damaged"):
        kept(tmp_path / "Q8_0.jsonl")


def test_speed_leaves_out_the_prompt() -> None:
    found = speed(asked(1.5, 1.5, 2.5, 5.5))  # 4 times 10 decoded tokens in 1 + 1 + 2 + 5 s
    assert found.tokens_per_second == pytest.approx(40 / 9, abs=0.01)
    assert (found.p50, found.p95, found.memory) == (1.5, 5.5, 123)


def test_p95_is_the_nearest_rank() -> None:
    assert speed(asked(*(float(n) for n in range(1, 21)))).p95 == 19.0


def test_speed_of_answers_that_are_one_token_long() -> None:
    assert speed(asked(0.5, tokens=1)).tokens_per_second == 0.0
