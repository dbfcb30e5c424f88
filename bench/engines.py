"""llama.cpp against vLLM on this processor: the same model, at a rising number of users.

    python bench/engines.py [--rounds N] [--users 1 4 16 32]

Both engines run; they alternate within a round, and the one that is not asked sleeps. Each user
asks two questions one after the other, for answers of one length. Prints medians over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import time
from contextlib import ExitStack
from typing import NamedTuple

from residency import hardware
from residency.config import DEFAULT_BASE
from residency.engines.base import Engine, EngineSpec
from residency.engines.client import EngineClient
from residency.engines.llama_cpp import LlamaCpp
from residency.engines.vllm import Vllm
from residency.models import carried
from residency.models.base import resolve

MODEL = "bench"
TOKENS = 64
CONTEXT = 512
REQUESTS_A_USER = 2
_numbers = itertools.count()


class Round(NamedTuple):
    """Tokens/s of all users together, and the median time to the first token in seconds."""

    rate: float
    ttft: float


async def _user(client: EngineClient) -> tuple[int, list[float]]:
    """How many tokens came, and how long each answer took to begin."""
    tokens, waits = 0, []
    for _ in range(REQUESTS_A_USER):
        # Opened by words of its own, so that no cache has it.
        text = f"{next(_numbers)}. Tell a long story about a river, a bridge and a lost letter."
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": TOKENS,
            "ignore_eos": True,
            "temperature": 0.0,
        }
        answer = await client.chat(body)
        tokens += answer.completion_tokens
        waits.append(answer.ttft)
    return tokens, waits


async def _ask(engine: Engine, users: int) -> Round:
    async with engine.client(600.0) as client:
        begin = time.perf_counter()
        found = await asyncio.gather(*(_user(client) for _ in range(users)))
        spent = time.perf_counter() - begin
    waits = [wait for _, of_user in found for wait in of_user]
    return Round(sum(tokens for tokens, _ in found) / spent, statistics.median(waits))


async def _measure(engines: dict[str, Engine], given: argparse.Namespace) -> None:
    for engine in engines.values():
        await _ask(engine, 2)
    columns = f"{'tokens/s':>10}{'lowest':>8}{'highest':>9}{'ttft, s':>9}{'MB':>7}"
    print(f"{'users':>5}  {'engine':10}{columns}")
    for users in given.users:
        found: dict[str, list[Round]] = {name: [] for name in engines}
        for number in range(given.rounds):
            for name in engines if number % 2 else reversed(engines):
                found[name].append(await _ask(engines[name], users))
        for name, rounds in found.items():
            rates = [one.rate for one in rounds]
            ttft = statistics.median(one.ttft for one in rounds)
            print(
                f"{users:>5}  {name:10}{statistics.median(rates):>10.0f}{min(rates):>8.0f}"
                f"{max(rates):>9.0f}{ttft:>9.2f}{engines[name].memory() / 1e6:>7.0f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--users", type=int, nargs="+", default=[1, 4, 16, 32])
    given = parser.parse_args()
    kinds = {
        "llama.cpp": (LlamaCpp, carried.gguf(DEFAULT_BASE)),
        "vLLM": (Vllm, resolve(DEFAULT_BASE).path),
    }
    print(f"load {os.getloadavg()[0]:.1f} before the start")
    with ExitStack() as stack:
        engines: dict[str, Engine] = {}
        for name, (kind, model) in kinds.items():
            spec = EngineSpec(
                model=model,
                alias=MODEL,
                context=CONTEXT,
                slots=max(given.users),
                threads=hardware.usable_cores(),
            )
            engines[name] = stack.enter_context(kind(spec))
        asyncio.run(_measure(engines, given))


if __name__ == "__main__":
    main()
