"""What gateways add to an upstream that costs nothing: time, requests/s, memory.

    python bench/added.py [--requests N] [--rounds N] [--seconds S] [--without-litellm]

Four ways to one upstream (bench/upstream.py): straight; a bare pass-through of Starlette and
aiohttp; LiteLLM's proxy, in an environment of its own; and ours with keys, limits, the
context's bound, guards, deadlines and masked records. Ways alternate within a round, plain and
streamed. Latency is to the end of an answer, one connection; saturation is with 16.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import psutil
from endpoint import MODEL, endpoint

from residency.config import DEFAULT_BASE
from residency.engines import environments
from residency.engines.environments import Environment
from residency.models import carried

HERE = Path(__file__).parent
CONNECTIONS = 16
START_SECONDS = 240.0
LITELLM = Environment(
    name="litellm",
    packages=("litellm[proxy]==1.108.7",),
    test="litellm.proxy.proxy_server",
    size=700_000_000,
)
SAID = "I took two tablets this morning and feel no better. What else may I do about it? " * 3
KINDS = {"plain": False, "streamed": True}


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """How requests reach the upstream; `pid` is its process, 0 where there is none."""

    name: str
    url: str
    key: str
    pid: int = 0

    def memory(self) -> float:
        """Resident, in megabytes; of LiteLLM with its children."""
        if not self.pid:
            return 0.0
        process = psutil.Process(self.pid)
        family = process.children(recursive=True) if self.name == "LiteLLM" else []
        return sum(one.memory_info().rss for one in [process, *family]) / 1e6


class Connection:
    """One connection and the least client there can be, so that the ways are what is measured."""

    def __init__(self, way: Way, *, stream: bool) -> None:
        where = urlsplit(way.url)
        self._host, self._port = where.hostname, where.port
        wanted = {"model": MODEL, "max_tokens": 64, "stream": stream}
        body = json.dumps({**wanted, "messages": [{"role": "user", "content": SAID}]})
        self._request = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {where.netloc}\r\n"
            f"authorization: Bearer {way.key}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}"
        ).encode()

    async def __aenter__(self) -> Self:
        opened = asyncio.open_connection(self._host, self._port, limit=2**20)
        self._reader, self._writer = await opened
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._writer.close()

    async def ask(self) -> float:
        """Seconds to the end of the answer."""
        begin = time.perf_counter()
        self._writer.write(self._request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        _, sized, size = head.partition(b"content-length:")
        if sized:
            answer = await self._reader.readexactly(int(size.split(b"\r\n", 1)[0]))
        else:
            answer = await self._reader.readuntil(b"\r\n0\r\n\r\n")
        spent = time.perf_counter() - begin
        if not head.startswith(b"http/1.1 200"):
            raise SystemExit(f"refused: {(head + answer).decode()}")
        return spent


async def one_by_one(way: Way, count: int, *, stream: bool) -> list[float]:
    """Milliseconds of each of `count` requests."""
    async with Connection(way, stream=stream) as connection:
        await connection.ask()
        return [1e3 * await connection.ask() for _ in range(count)]


async def saturated(way: Way, seconds: float, *, stream: bool) -> float:
    """Requests/s with all connections busy."""
    end = time.perf_counter() + seconds

    async def user() -> int:
        count = 0
        async with Connection(way, stream=stream) as connection:
            while time.perf_counter() < end:
                await connection.ask()
                count += 1
        return count

    begin = time.perf_counter()
    done = sum(await asyncio.gather(*(user() for _ in range(CONNECTIONS))))
    return done / (time.perf_counter() - begin)


async def measure(ways: Sequence[Way], kind: str, given: argparse.Namespace) -> None:
    """Print the table of one kind of answer."""
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    rates: dict[str, list[float]] = {way.name: [] for way in ways}
    for way in ways:
        await one_by_one(way, 50, stream=KINDS[kind])
    for number in range(given.rounds):
        for way in ways if number % 2 else reversed(ways):
            times[way.name] += await one_by_one(way, given.requests, stream=KINDS[kind])
    for number in range(given.rounds):
        for way in ways if number % 2 else reversed(ways):
            rates[way.name].append(await saturated(way, given.seconds, stream=KINDS[kind]))
    bare = _percentiles(times[ways[0].name])
    print(
        f"\n{kind:14}{'p50':>8}{'p99':>8}{'added p50':>11}{'p99, ms':>9}{'requests/s':>12}{'MB':>6}"
    )
    for way in ways:
        p50, p99 = _percentiles(times[way.name])
        rate = statistics.median(rates[way.name])
        added = f"{p50 - bare[0]:>11.2f}{p99 - bare[1]:>9.2f}"
        print(f"{way.name:14}{p50:>8.2f}{p99:>8.2f}{added}{rate:>12,.0f}{way.memory():>6.0f}")


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    *_, p99 = statistics.quantiles(values, n=100)
    return statistics.median(values), p99


@contextmanager
def _process(command: Sequence[str], port: int, **variables: str) -> Iterator[int]:
    """A process that listens on `port`; yields its id."""
    with tempfile.TemporaryFile("w+") as log:
        child = subprocess.Popen(
            command, env=os.environ | variables, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            end = time.monotonic() + START_SECONDS
            while not _listens(port):
                if child.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    raise SystemExit(f"{command[0]} did not start: {log.read()[-2000:]}")
                time.sleep(0.2)
            yield child.pid
        finally:
            child.terminate()
            child.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _passthrough(upstream: str) -> Iterator[Way]:
    port = _free_port()
    command = [sys.executable, str(HERE / "passthrough.py"), f"{upstream}/v1", str(port)]
    with _process(command, port) as pid:
        yield Way(name="pass-through", url=f"http://127.0.0.1:{port}", key="", pid=pid)


@contextmanager
def _litellm(upstream: str, folder: Path) -> Iterator[Way]:
    port, key = _free_port(), "sk-bench"
    model = {"model": f"openai/{MODEL}", "api_base": f"{upstream}/v1", "api_key": "none"}
    config = {
        "model_list": [{"model_name": MODEL, "litellm_params": model}],
        "general_settings": {"master_key": key},
    }
    (folder / "litellm.yaml").write_text(json.dumps(config))  # JSON is YAML
    program = environments.python(LITELLM).parent / "litellm"
    command = [str(program), "--config", str(folder / "litellm.yaml"), "--port", str(port)]
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with _process([*command, "--host", "127.0.0.1"], port, **quiet) as pid:
        yield Way(name="LiteLLM", url=f"http://127.0.0.1:{port}", key=key, pid=pid)


def _upstream(folder: Path) -> Path:
    """The upstream as a program."""
    program = folder / "upstream"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE / "upstream.py"}" "$@"\n')
    program.chmod(0o700)
    return program


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--without-litellm", action="store_true")
    given = parser.parse_args()
    if not given.without_litellm:
        environments.install(LITELLM)
    print(f"load {os.getloadavg()[0]:.1f} before the start")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engine = {"server": str(_upstream(folder)), "slots": 64}
        ours = stack.enter_context(endpoint(carried.gguf(DEFAULT_BASE), engine, {}))
        ways = [
            Way(name="straight", url=ours.engine_url, key=""),
            stack.enter_context(_passthrough(ours.engine_url)),
            Way(name="ours", url=ours.url, key=ours.key, pid=ours.pid),
        ]
        if not given.without_litellm:
            ways.append(stack.enter_context(_litellm(ours.engine_url, folder)))
        for kind in KINDS:
            asyncio.run(measure(ways, kind, given))


if __name__ == "__main__":
    main()
