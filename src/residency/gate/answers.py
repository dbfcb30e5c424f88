"""What a build answered and how fast, kept so that a killed gate asks no finished build again."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from residency.errors import StorageError
from residency.store import write_atomic
from residency.types import to_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One answer: `source` is the asked conversation's, `tokens` counts what was generated."""

    source: str
    text: str
    finish_reason: str
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Seconds to the first token (`ttft`) and to the last, as the asker saw them."""

    ttft: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A build's answers in the order of the test split; `memory` is the engine's peak in bytes."""

    answers: tuple[Answer, ...]
    timings: tuple[Timing, ...]
    memory: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Decoding in tokens/s over all answers; latency of whole answers in seconds."""

    tokens_per_second: float
    p50: float
    p95: float
    memory: int


def speed(asked: Asked) -> Speed:
    """Summarise the timings. The first token is not counted: it is the prompt's, not decoding's."""
    decoded = sum(max(answer.tokens - 1, 0) for answer in asked.answers)
    spent = sum(timing.seconds - timing.ttft for timing in asked.timings)
    latencies = sorted(timing.seconds for timing in asked.timings)
    return Speed(
        tokens_per_second=round(decoded / spent, 2) if spent > 0 else 0.0,
        p50=round(_rank(latencies, 0.50), 4),
        p95=round(_rank(latencies, 0.95), 4),
        memory=asked.memory,
    )


def write_answers(path: Path, answers: Sequence[Answer]) -> None:
    """Write one answer a line, at once or not at all."""
    write_atomic(path, "".join(to_json(answer) + "\n" for answer in answers))


def keep(folder: Path, build: str, asked: Asked) -> None:
    """Keep what `build` answered. The answers are written last: with them it has finished."""
    timings = {"timings": asked.timings, "memory": asked.memory}
    write_atomic(folder / f"{build}.timings.json", to_json(timings))
    write_answers(folder / f"{build}.jsonl", asked.answers)


def kept(folder: Path, build: str) -> Asked | None:
    """What `keep` wrote, or None. Raises `StorageError` where it is damaged."""
    path = folder / f"{build}.jsonl"
    if not path.exists():
        return None
    try:
        with path.open(encoding="utf-8") as file:
            answers = [json.loads(line) for line in file]
        rest = json.loads((folder / f"{build}.timings.json").read_text(encoding="utf-8"))
        return Asked(
            answers=tuple(Answer(**row) for row in answers),
            timings=tuple(Timing(**row) for row in rest["timings"]),
            memory=rest["memory"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{path}: damaged answers ({error})", hint=f"delete {folder} and run again"
        ) from error


def _rank(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
