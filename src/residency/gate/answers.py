"""What a build or an API answered and how fast, kept line by line: a killed gate goes on there."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from residency.errors import StorageError
from residency.store import whole_lines, write_atomic
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
    """Answers in the order of their questions; `memory` is the engine's peak in bytes, `load` the
    seconds that it took to start."""

    answers: tuple[Answer, ...] = ()
    timings: tuple[Timing, ...] = ()
    memory: int = 0
    load: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Decoding in tokens/s over all answers; seconds to the first token (median), of whole answers
    (`p50`, `p95`) and of the engine's start."""

    tokens_per_second: float
    ttft: float
    p50: float
    p95: float
    memory: int
    load: float


def speed(asked: Asked) -> Speed:
    """Summarise the timings. The first token is not counted: it is the prompt's, not decoding's."""
    decoded = sum(max(answer.tokens - 1, 0) for answer in asked.answers)
    spent = sum(timing.seconds - timing.ttft for timing in asked.timings)
    latencies = [timing.seconds for timing in asked.timings]
    return Speed(
        tokens_per_second=round(decoded / spent, 2) if spent > 0 else 0.0,
        ttft=percentile([timing.ttft for timing in asked.timings], 0.50),
        p50=percentile(latencies, 0.50),
        p95=percentile(latencies, 0.95),
        memory=asked.memory,
        load=asked.load,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile, to 0.1 ms; 0 of nothing."""
    ordered = sorted(values)
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 4) if ordered else 0.0


def write_answers(path: Path, answers: Sequence[Answer]) -> None:
    """Write one answer a line, at once or not at all."""
    write_atomic(path, "".join(to_json(answer) + "\n" for answer in answers))


def keep(file: IO[str], answer: Answer, timing: Timing) -> None:
    """Add one answer to those that are kept in `file`."""
    file.write(json.dumps({"answer": asdict(answer), "timing": asdict(timing)}) + "\n")
    file.flush()


def kept(path: Path) -> Asked:
    """What `keep` wrote. Raises `StorageError` where the file is damaged."""
    try:
        rows = [json.loads(line) for line in whole_lines(path)]
        return Asked(
            answers=tuple(Answer(**row["answer"]) for row in rows),
            timings=tuple(Timing(**row["timing"]) for row in rows),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{path}: damaged answers ({error})", hint=f"delete {path} and run again"
        ) from error
