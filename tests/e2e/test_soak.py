"""Mixed load on the real endpoint and engine: memory stays flat, no request is lost."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from residency.traffic.store import FILE_NAME, TrafficStore
from tests.engines.processes import ROOT

USERS = 6
HOUR = 3600.0
LEFT = "left"


def requests(dice: random.Random) -> tuple[str, dict[str, Any]]:
    """One of the things that clients send; half of them streamed."""
    text = " ".join(dice.choices(["visit", "bill", "why", "tomorrow", "处方", "cita", "now"], k=9))
    said = [{"role": "user", "content": text}]
    stream = {"stream": dice.random() < 0.5, "max_tokens": dice.randrange(4, 40)}
    long = [{"role": r, "content": text * 6} for _ in range(4) for r in ("user", "assistant")]
    return dice.choice(
        [
            ("/v1/chat/completions", {"messages": said, **stream}),
            ("/v1/chat/completions", {"messages": said, "n": 2, "temperature": 0.9, **stream}),
            ("/v1/chat/completions", {"messages": [*long, *said], "context": "prune", **stream}),
            ("/v1/chat/completions", {"messages": said, "timeout": 0.3, **stream}),
            ("/v1/chat/completions", {"messages": said, "tempreture": 1}),
            ("/v1/completions", {"prompt": text, **stream}),
            ("/v1/messages", {"messages": said, **stream}),
            ("/v1/responses", {"input": text, "stream": stream["stream"], "max_output_tokens": 20}),
        ]
    )


async def user(url: str, number: int, end: float, seen: Counter[str]) -> None:
    """Asks one thing after the other, and now and then leaves in the middle."""
    dice = random.Random(number)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        while time.monotonic() < end:
            path, body = requests(dice)
            leaves = dice.random() < 0.1
            async with session.post(url + path, json={"model": "clinic-desk", **body}) as response:
                if leaves and response.status == 200:
                    await response.content.readany()
                    response.close()
                    seen[LEFT] += 1
                    continue
                text = await response.text()
                seen[str(response.status)] += 1
                assert response.status in (200, 400, 503, 504), text
                if response.status == 200:
                    assert "error" not in text or "residency" in text


async def watch(process: psutil.Process, end: float, every: float) -> list[tuple[int, int]]:
    """Memory of gateway and engine, again and again."""
    found = []
    while time.monotonic() < end:
        await asyncio.sleep(every)
        engine = process.children()[0]
        found.append((process.memory_info().rss, engine.memory_info().rss))
    return found


async def load(url: str, pid: int, seconds: float) -> tuple[Counter[str], list[tuple[int, int]]]:
    end, seen = time.monotonic() + seconds, Counter[str]()
    users = [user(url, number, end, seen) for number in range(USERS)]
    *_, memory = await asyncio.gather(*users, watch(psutil.Process(pid), end, seconds / 40))
    return seen, memory


@pytest.mark.parametrize("seconds", [12.0, pytest.param(HOUR, marks=pytest.mark.slow)])
def test_mixed_load(base_gguf: Path, tmp_path: Path, seconds: float) -> None:
    given = json.dumps({"serve": {"port": 0, "record": "whole"}, "slots": 3})
    command = [
        sys.executable,
        "-m",
        "tests.serve.server_main",
        str(tmp_path),
        str(base_gguf),
        given,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            seen, memory = asyncio.run(load(url, process.pid, seconds))
        finally:
            process.terminate()
        assert process.wait(60) == 0
    store = TrafficStore(tmp_path / ".residency" / FILE_NAME)
    # A body that was not understood is refused and not recorded.
    kept = list(store.between(0, time.time() + HOUR))
    store.close()
    assert sum(one.status == 200 for one in kept) == seen["200"] + late_leavers(kept, seen)
    assert {one.status for one in kept} <= {200, 400, 499, 503, 504}
    assert sum(seen.values()) > USERS
    for part in (0, 1):
        early, late = (
            statistics.median(m[part] for m in half)
            for half in (memory[len(memory) // 4 : len(memory) // 2], memory[-len(memory) // 4 :])
        )
        assert late < early * 1.1 + 20e6, f"{early / 1e6:.0f} MB grew to {late / 1e6:.0f} MB"


def late_leavers(kept: list[Any], seen: Counter[str]) -> int:
    """Clients that left when their whole answer had been sent already."""
    return seen[LEFT] - sum(one.status == 499 for one in kept)
