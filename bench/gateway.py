"""What the gateway costs: the bare engine against the same engine through the gateway.

    python bench/gateway.py [--gguf FILE] [--rounds N] [--users 1 4 16]

One engine, one client, the same questions; the two ways alternate within a run, so that a neighbour
on the machine hits both. Decoding is tokens after the first over the time after the first, of each
request; the ratio is the median over the rounds' ratios. bench/added.py has what is added to an
upstream that costs nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from endpoint import MODEL, endpoint

from residency.config import DEFAULT_BASE
from residency.engines.client import ChatAnswer, EngineClient
from residency.models import carried

TOKENS = 96
CONTEXT = 512
REQUESTS_A_USER = 2
WAYS = ("bare", "gateway")


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One way, one number of users. Rates in tokens/s (`total` of all users), times in seconds."""

    decode: float
    total: float
    ttft: float
    latency: float


async def _user(client: EngineClient, name: str) -> list[ChatAnswer]:
    """Questions one after the other, each opened by its own words so that no cache has it."""
    answers = []
    for number in range(REQUESTS_A_USER):
        text = f"{name}-{number}. Tell a long story about a river, a bridge and a lost letter."
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": TOKENS,
            "temperature": 0,
            "seed": 0,
        }
        answers.append(await client.chat(body))
    return answers


async def _round(client: EngineClient, name: str, users: int) -> Round:
    begin = time.perf_counter()
    groups = await asyncio.gather(*(_user(client, f"{name}-{user}") for user in range(users)))
    spent = time.perf_counter() - begin
    answers = [one for group in groups for one in group]
    return Round(
        decode=sum(a.completion_tokens - 1 for a in answers)
        / sum(a.seconds - a.ttft for a in answers),
        total=sum(a.completion_tokens for a in answers) / spent,
        ttft=statistics.median(a.ttft for a in answers),
        latency=statistics.median(a.seconds for a in answers),
    )


async def _measure(clients: dict[str, EngineClient], users: int, rounds: int) -> None:
    found: dict[str, list[Round]] = {way: [] for way in WAYS}
    for number in range(rounds):
        # Who goes first changes from round to round.
        for way in WAYS if number % 2 else reversed(WAYS):
            # The same words for both ways: greedy answers then have the same length.
            found[way].append(await _round(clients[way], f"{users}-{number}", users))
    _print(users, found)


async def _compare(urls: dict[str, tuple[str, str]], given: argparse.Namespace) -> None:
    clients = {way: EngineClient(url, key) for way, (url, key) in urls.items()}
    try:
        for way in WAYS:
            await _round(clients[way], f"warm-{way}", 1)
        for users in given.users:
            await _measure(clients, users, given.rounds)
    finally:
        for client in clients.values():
            await client.close()


def _print(users: int, found: dict[str, list[Round]]) -> None:
    print(f"\n{users} user{'s' * (users > 1)}: medians of {len(found['bare'])} rounds")
    print(f"{'':12}{'bare':>10}{'gateway':>10}{'ratio':>8}{'lowest':>8}{'highest':>9}")
    names = {"decode": "tokens/s", "total": "tokens/s", "ttft": "s", "latency": "s"}
    for name, unit in names.items():
        bare, ours = ([getattr(one, name) for one in found[way]] for way in WAYS)
        ratios = [b / a for a, b in zip(bare, ours, strict=True)]
        a, b, ratio = (statistics.median(values) for values in (bare, ours, ratios))
        lowest, highest = min(ratios), max(ratios)
        label = f"{name}, {unit}"
        print(f"{label:17}{a:>8.3f}{b:>9.3f}{ratio:>8.3f}{lowest:>8.3f}{highest:>9.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--gguf", type=Path, help="a model file; default: the carried base model")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--users", type=int, nargs="+", default=[1, 4, 16])
    given = parser.parse_args()
    model = given.gguf or carried.gguf(DEFAULT_BASE)
    print(f"load {os.getloadavg()[0]:.1f} before the start")
    settings = {"context": CONTEXT, "slots": max(given.users)}
    with endpoint(model, settings, {}) as ours:
        urls = {"bare": (ours.engine_url, ours.engine_key), "gateway": (ours.url, ours.key)}
        asyncio.run(_compare(urls, given))


if __name__ == "__main__":
    main()
