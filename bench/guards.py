"""What the guards find, what they take for a loop that is none, and what they cost.

    python bench/guards.py [--texts FILE]...

FILE is JSONL whose rows have an `answer`, or any text: alarms on it are listed, and it is timed.
Without one only tests/serve/legitimate.py is read. All text comes in tokens of 4 characters.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path
from typing import Any

from residency.repetition import Detector, Loop
from residency.serve.guards import Rules, guard
from residency.serve.notes import Notes
from tests.serve import legitimate

TOKEN = 4
TIMED = 20_000
BANNED = ("password", "internal use only", "密码")
ROUNDS = 5


def tokens(text: str) -> list[str]:
    return [text[n : n + TOKEN] for n in range(0, len(text), TOKEN)]


def read(text: str) -> tuple[Loop | None, int]:
    """The loop in `text`, and how many characters had come by then."""
    detector = Detector()
    for number, token in enumerate(tokens(text), 1):
        if loop := detector.feed(token):
            return loop, number * TOKEN
    return None, len(text)


def found(name: str, texts: Iterable[tuple[str, str, str]]) -> None:
    """Prints how many loops are found, and how many characters of each went out before it was."""
    texts = list(texts)
    for kind in ("token", "phrase", "paragraph"):
        ends = [
            end - len(before)
            for this, before, loop in texts
            if this == kind
            for alarm, end in [read(before + loop)]
            if alarm
        ]
        count = sum(this == kind for this, _, _ in texts)
        middle = f"{statistics.median(ends):.0f}" if ends else "-"
        print(
            f"{name}, {kind}: {len(ends)} of {count} found, after p50 {middle}, "
            f"max {max(ends, default=0)} characters"
        )


def real() -> None:
    for name, text in legitimate.REAL.items():
        loop, end = read(text)
        said = (
            f"{loop.kind}, {end - loop.start} characters after its first unit" if loop else "MISSED"
        )
        print(f"  SmolLM2, {name}: {said}")


def alarms(name: str, texts: Iterable[str]) -> None:
    count = wrong = 0
    for text in texts:
        count += 1
        if loop := read(text)[0]:
            wrong += 1
            print(f"  {name}: {loop.kind} x {loop.repeats}: {loop.unit[:60]!r}")
    print(f"{name}: {wrong} alarms on {count} texts ({wrong / count * 10_000:.1f} in 10,000)")


def answers(path: Path) -> Iterable[str]:
    if path.suffix != ".jsonl":
        return [path.read_text()]
    return [json.loads(line)["answer"] for line in path.read_text().splitlines()]


def detector_cost(text: str) -> float:
    """Microseconds a token, the best of some rounds."""
    pieces = tokens(text)

    def once() -> float:
        detector = Detector()
        begin = time.perf_counter()
        for piece in pieces:
            detector.feed(piece)
        return (time.perf_counter() - begin) / len(pieces) * 1e6

    return min(once() for _ in range(ROUNDS))


def guard_cost(text: str, rules: Rules) -> float:
    """Microseconds that the step adds to a chunk, the detector among them."""
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
        for piece in tokens(text)
    ]

    async def stream() -> AsyncGenerator[dict[str, Any]]:
        for chunk in chunks:
            yield chunk

    async def once(guarded: bool) -> float:
        begin = time.perf_counter()
        async for _ in guard(stream(), rules, Notes()) if guarded else stream():
            pass
        return (time.perf_counter() - begin) / len(chunks) * 1e6

    def best(guarded: bool) -> float:
        return min(asyncio.run(once(guarded)) for _ in range(ROUNDS))

    return best(True) - best(False)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=Path, action="append", default=[])
    given = parser.parse_args()
    found("loops", legitimate.loops())
    real()
    alarms("legitimate", legitimate.TEXTS.values())
    for path in given.texts:
        alarms(path.name, answers(path))
    timed = {path.name: answers(path) for path in given.texts}
    timed |= {"prose": legitimate.PROSE.values(), "code": legitimate.CODE.values()}
    for name, texts in timed.items():
        text = "\n".join(texts)[:TIMED]
        print(
            f"{name}, us a token: detector {detector_cost(text):.2f}, "
            f"guard {guard_cost(text, Rules()):.2f}, "
            f"with banned strings {guard_cost(text, Rules(banned=BANNED)):.2f}"
        )


if __name__ == "__main__":
    main()
