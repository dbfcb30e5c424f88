"""What OpenMP's spin count does to the engine beside busy neighbours.

    python bench/engine.py [--gguf FILE] [--rounds N]

For each number of neighbours (processes that compute without pause) the engine decodes with GNU
OpenMP's default spin count and with ours. The two alternate within a round, so that what else runs
on the machine hits both. Prints medians of tokens/s over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from residency import hardware
from residency.config import DEFAULT_BASE
from residency.engines import hosted, llama_cpp
from residency.engines.base import EngineSpec
from residency.engines.client import EngineClient
from residency.models import carried

OURS = hosted.SPIN_COUNT
DEFAULT = "300000"  # GNU OpenMP's own, as its manual gives it for an undefined wait policy
TOKENS = 48
NEIGHBOURS = (0, 1, 2)


@contextlib.contextmanager
def neighbours(count: int) -> Iterator[None]:
    """That many processes that keep a core busy."""
    command = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


async def decode(engine: llama_cpp.LlamaCpp) -> float:
    """Tokens/s after the first token, one user."""
    messages = [{"role": "user", "content": "Tell me of the sea."}]
    body = {"messages": messages, "max_tokens": TOKENS, "ignore_eos": True, "temperature": 0}
    async with EngineClient(engine.url, engine.key) as client:
        answer = await client.chat(body)
    return (answer.completion_tokens - 1) / (answer.seconds - answer.ttft)


def measure(gguf: Path, spin: str) -> float:
    """A fresh engine: the variable is read once, when its process starts."""
    hosted.SPIN_COUNT = spin
    spec = EngineSpec(model=gguf, alias="bench", slots=1, threads=hardware.usable_cores())
    with llama_cpp.LlamaCpp(spec) as engine:
        return asyncio.run(decode(engine))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--gguf", type=Path)
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    gguf = given.gguf or carried.gguf(DEFAULT_BASE)
    print(f"{hardware.usable_cores()} cores, load {os.getloadavg()[0]:.1f} before the start")
    for count in NEIGHBOURS:
        rates: dict[str, list[float]] = {DEFAULT: [], OURS: []}
        with neighbours(count):
            for _ in range(given.rounds):
                for spin, seen in rates.items():
                    seen.append(measure(gguf, spin))
        words = ", ".join(
            f"spin {spin}: {statistics.median(seen):.1f} ({min(seen):.1f} to {max(seen):.1f})"
            for spin, seen in rates.items()
        )
        print(f"{count} neighbours, tokens/s: {words}", flush=True)


if __name__ == "__main__":
    main()
