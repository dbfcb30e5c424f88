"""How many exchanges a second the record keeps up with, and what that costs the event loop.

    python bench/record.py [--count N] [--mode masked|whole]

An event loop offers N exchanges of some 1,500 characters as fast as the recorder takes them, and
between them measures how late it wakes up from sleeping a millisecond.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from residency.traffic.store import TrafficStore
from residency.traffic.writer import Recorder
from residency.types import Exchange

SAID = "I took 2 tablets on 3 May, and it is no better. What else may I do about it? " * 9
WHERE = "Reach me at a.person@example.com or 020 7946 0958."


def exchange(number: int) -> Exchange:
    messages = [{"role": "user", "content": f"{number}: {SAID}{WHERE}"}]
    answer = {"role": "assistant", "content": SAID}
    return Exchange(
        id=f"req_{number:024}",
        time=time.time(),
        api="chat",
        model="clinic-desk",
        key="ada",
        subject=f"person {number % 100}",
        request={"model": "clinic-desk", "messages": messages, "temperature": 0.0},
        response={"choices": [{"index": 0, "message": answer, "finish_reason": "stop"}]},
        status=200,
        latency=0.3,
        ttft=0.1,
    )


async def nap() -> float:
    """Seconds by which a sleep was too long."""
    start = time.perf_counter()
    await asyncio.sleep(0.001)
    return time.perf_counter() - start - 0.001


async def offer(recorder: Recorder, count: int) -> list[float]:
    late = []
    for number in range(count):
        recorder.offer(exchange(number))
        while recorder.waiting > 200:
            late.append(await nap())
    return late


async def idle() -> list[float]:
    return [await nap() for _ in range(1000)]


def tell(name: str, late: list[float]) -> None:
    *_, p99 = statistics.quantiles(late, n=100)
    p50 = statistics.median(late)
    print(f"{name}: loop late by {p50 * 1e3:.2f} ms p50, {p99 * 1e3:.2f} ms p99")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--mode", choices=["masked", "whole"], default="masked")
    wanted = parser.parse_args()
    tell("idle", asyncio.run(idle()))
    with tempfile.TemporaryDirectory() as folder:
        store = TrafficStore(Path(folder) / "traffic.db")
        recorder = Recorder(store, mode=wanted.mode, retention_days=0)
        start = time.perf_counter()
        late = asyncio.run(offer(recorder, wanted.count))
        lost = recorder.close()
        seconds = time.perf_counter() - start
        assert store.count() == wanted.count and not lost
        store.close()
    print(f"{wanted.mode}: {wanted.count / seconds:,.0f} exchanges/s")
    tell("recording", late)


if __name__ == "__main__":
    main()
