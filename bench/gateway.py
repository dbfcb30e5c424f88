"""What the gateway costs: the bare engine against the same engine through the gateway.

    python bench/gateway.py [--gguf FILE] [--rounds N]

One engine, one client, the same questions; the two ways alternate within a run, so that a neighbour
on the machine hits both. Decoding is tokens after the first over the time after the first, of each
request; the ratio is the median over the rounds' ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from residency.config import DEFAULT_BASE
from residency.engines.base import EngineSpec
from residency.engines.client import ChatAnswer, EngineClient
from residency.engines.llama_cpp import LlamaCpp
from residency.models import carried
from residency.serve.app import create_app
from residency.serve.gateway import Gateway
from residency.types import Build, Release, Verdict

MODEL = "bench"
TOKENS = 96
CONTEXT = 512
USERS = (1, 4)
REQUESTS_A_USER = 2
WAYS = ("bare", "gateway")


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One way, one number of users. Rates in tokens/s (`total` of all users), times in seconds."""

    decode: float
    total: float
    ttft: float
    latency: float


class _Running:
    """An engine that runs already."""

    def __init__(self, url: str, key: str) -> None:
        self._client = EngineClient(url, key)

    def client(self) -> EngineClient:
        return self._client


def _release(model: Path) -> Release:
    build = Build(
        name="bench",
        format="gguf",
        file=model.name,
        size=model.stat().st_size,
        digest="0" * 64,
        template_digest="",
        stop_tokens=(),
        fingerprint="",
    )
    return Release(
        name="bench",
        model=MODEL,
        base=DEFAULT_BASE,
        build=build,
        artifact="",
        system="",
        max_tokens=TOKENS,
        context=CONTEXT,
        verdict=Verdict(build="bench", passed=True, rule="", figures={}),
        gate_key="",
        created="2026-01-01T00:00:00Z",
    )


def _gateway(release: Release, url: str, key: str, sock: socket.socket) -> None:
    app = create_app(Gateway(release, _Running(url, key), timeout=120.0))
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
    uvicorn.Server(config).run(sockets=[sock])


@contextmanager
def _gateway_process(release: Release, engine: LlamaCpp) -> Iterator[str]:
    """The gateway in a process of its own, as `residency serve` has it; yields its address."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        spawn = multiprocessing.get_context("spawn")
        arguments = (release, engine.url, engine.key, sock)
        child = spawn.Process(target=_gateway, args=arguments, daemon=True)
        child.start()
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            child.terminate()
            child.join()


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


async def _measure(urls: dict[str, tuple[str, str]], rounds: int) -> None:
    clients = {way: EngineClient(url, key) for way, (url, key) in urls.items()}
    try:
        for way in WAYS:
            await _round(clients[way], f"warm-{way}", 1)
        for users in USERS:
            found: dict[str, list[Round]] = {way: [] for way in WAYS}
            for number in range(rounds):
                # Who goes first changes from round to round.
                for way in WAYS if number % 2 else reversed(WAYS):
                    name = f"{users}-{number}-{way[0]}"
                    found[way].append(await _round(clients[way], name, users))
            _print(users, found)
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
        print(f"{label:17}{a:>8.3f}{b:>9.3f}{ratio:>8.3f}{lowest:>8.3f}{highest:>9.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--gguf", type=Path, help="a model file; default: the carried base model")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    model = arguments.gguf or carried.gguf(DEFAULT_BASE)
    spec = EngineSpec(model=model, alias=MODEL, context=CONTEXT, slots=max(USERS))
    with LlamaCpp(spec) as engine, _gateway_process(_release(model), engine) as url:
        urls = {"bare": (engine.url, engine.key), "gateway": (url, "")}
        asyncio.run(_measure(urls, arguments.rounds))


if __name__ == "__main__":
    main()
