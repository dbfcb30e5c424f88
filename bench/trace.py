"""How much work the endpoint does in time: a trace of real arrivals at rising load.

    python bench/trace.py TRACE.csv [--loads 0.5 1 2 4] [--url URL --model NAME --key KEY]

Without a URL it starts the endpoint itself, on the carried base model, with `--slots` slots.
TRACE has `timestamp, context_tokens, generated_tokens` a request (the form of Azure's traces of
2023). Lengths are divided by `--shrink`, as the trace comes from larger machines; arrivals keep
their pattern, and their rate is set to each load in requests/s. Goodput counts answers whose first
token came within `--ttft` seconds and whose other tokens took at most `--tpot` seconds each, on
average. A gateway that degrades well refuses what it cannot do in time; another collapses.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import aiohttp
from endpoint import MODEL, endpoint

from residency.config import DEFAULT_BASE
from residency.models import carried

PATIENCE = 120.0
MOST_PROMPT, MOST_ANSWER = 1200, 200


class Arrival(NamedTuple):
    """A request of the trace: seconds after its first, and lengths in tokens."""

    at: float
    prompt: int
    answer: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One request: HTTP status (0: no answer), seconds to the first token and a token after it."""

    status: int
    ttft: float = 0.0
    tpot: float = 0.0
    tokens: int = 0

    def good(self, ttft: float, tpot: float) -> bool:
        return self.status == 200 and self.tokens > 0 and self.ttft <= ttft and self.tpot <= tpot


def read(path: Path, shrink: float, count: int) -> list[Arrival]:
    """The first `count` requests of a trace, with lengths divided by `shrink`."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(count), strict=False)]
    times = [datetime.fromisoformat(row["timestamp"][:26]) for row in rows]
    return [
        Arrival(
            (moment - times[0]).total_seconds(),
            min(MOST_PROMPT, max(4, round(int(row["context_tokens"]) / shrink))),
            min(MOST_ANSWER, max(2, round(int(row["generated_tokens"]) / shrink))),
        )
        for moment, row in zip(times, rows, strict=True)
    ]


async def ask(session: aiohttp.ClientSession, url: str, body: dict[str, object]) -> Outcome:
    """Send one request and watch its stream."""
    begin = time.perf_counter()
    first = last = 0.0
    tokens = 0
    try:
        async with session.post(url, json=body) as response:
            if response.status != 200:
                return Outcome(status=response.status)
            async for line in response.content:
                if not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    return Outcome(status=500)
                if any(choice["delta"].get("content") for choice in chunk["choices"]):
                    last = time.perf_counter()
                    first = first or last
                    tokens += 1
    except (aiohttp.ClientError, TimeoutError):
        return Outcome(status=0)
    pause = (last - first) / max(1, tokens - 1)
    return Outcome(status=200, ttft=first - begin, tpot=pause, tokens=tokens)


async def replay(
    arrivals: Sequence[Arrival], load: float, options: argparse.Namespace
) -> list[Outcome]:
    """Send all `arrivals` at a mean of `load` requests/s, however slowly answers come."""
    pace = len(arrivals) / arrivals[-1].at / load
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"authorization": f"Bearer {options.key}"}
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=headers
    ) as session:
        begin, tasks = time.perf_counter(), []
        for number, one in enumerate(arrivals):
            await asyncio.sleep(max(0.0, begin + one.at * pace - time.perf_counter()))
            body = {
                "model": options.model,
                # Each prompt begins in its own way, so that no prompt cache has it.
                "messages": [{"role": "user", "content": f"{load}-{number} " + "on " * one.prompt}],
                "max_tokens": one.answer,
                "stream": True,
            }
            url = options.url.rstrip("/") + "/v1/chat/completions"
            tasks.append(asyncio.create_task(ask(session, url, body)))
        return list(await asyncio.gather(*tasks))


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def report(
    load: float, outcomes: Sequence[Outcome], seconds: float, ttft: float, tpot: float
) -> str:
    """One line of the table."""
    done = [one for one in outcomes if one.status == 200]
    refused = sum(one.status in (429, 503) for one in outcomes)
    failed = len(outcomes) - len(done) - refused
    good = sum(one.good(ttft, tpot) for one in outcomes)
    return (
        f"{load:>6.2f}{len(outcomes):>7}{len(done):>7}{refused:>9}{failed:>8}"
        f"{good / seconds:>9.2f}{good / len(outcomes):>7.0%}"
        f"{percentile([o.ttft for o in done], 0.5):>9.2f}"
        f"{percentile([o.ttft for o in done], 0.95):>9.2f}"
        f"{1000 * percentile([o.tpot for o in done], 0.95):>11.0f}"
        f"{sum(o.tokens for o in done) / seconds:>9.0f}"
    )


async def run(options: argparse.Namespace) -> None:
    arrivals = read(options.trace, options.shrink, options.requests)
    print(
        f"objective: first token within {options.ttft:g} s, {1000 * options.tpot:g} ms a token\n"
        f"{'load/s':>6}{'sent':>7}{'done':>7}{'refused':>9}{'failed':>8}{'good/s':>9}{'share':>7}"
        f"{'ttft p50':>9}{'p95, s':>9}{'tpot95, ms':>11}{'tokens/s':>9}"
    )
    for load in options.loads:
        begin = time.perf_counter()
        outcomes = await replay(arrivals, load, options)
        spent = time.perf_counter() - begin
        print(report(load, outcomes, spent, options.ttft, options.tpot), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("trace", type=Path)
    parser.add_argument("--url", default="")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--key", default="")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--queue", type=int, default=64)
    parser.add_argument("--wait", type=float, default=30.0)
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--shrink", type=float, default=8.0)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 1, 2, 4, 8])
    parser.add_argument("--ttft", type=float, default=2.0)
    parser.add_argument("--tpot", type=float, default=0.1)
    given = parser.parse_args()
    print(f"load of the machine {os.getloadavg()[0]:.1f} before the start")
    if given.url:
        asyncio.run(run(given))
        return
    # Requests come by one key, which may then fill all of the queue: the model's is what counts.
    serve = {"queue": given.queue, "wait": given.wait, "keys": False}
    with endpoint(carried.gguf(DEFAULT_BASE), {"slots": given.slots}, serve) as ours:
        given.url, given.key = ours.url, ours.key
        asyncio.run(run(given))


if __name__ == "__main__":
    main()
