"""Records `steady_tokens.tsv`: an hour of steady load, as record and watch of a gateway have it.

    python -m tests.watch.record_steady FILE [SECONDS]

The gateway is a process of its own before the fake engine `slow`, which waits 50 ms for each word,
so that it takes next to nothing from the machine. Requests come at random, one every 1.4 s on
average and plain, each of 1 to 30 words. It looks as often as the gateway itself does.

Where all of it was stopped for a while, as is done on a shared machine while another measures, that
while is cut out, with the requests that were at work in it; SECONDS are of the rest.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import openai

from residency.progress import say
from residency.serve.ask import snapshot
from residency.store import Store
from residency.traffic.store import FILE_NAME, TrafficStore
from tests.fakes.engine import FakeEngine
from tests.serve import processes

MODEL = "desk"
PAUSE, WORDS, LOOK = 1.4, 30, 5.0
SHARED_MEMORY = "/dev/shm"
"""Where the workspace is: on a disk that others fill meanwhile the alarm would be right."""
STOPPED = 10.0
"""Seconds by which a sleep is longer only where the process was stopped."""
Line = tuple[float, str]


class Stop(NamedTuple):
    """A while in which all was stopped: from when, and for how long."""

    begin: float
    seconds: float


def ask(client: openai.OpenAI, words: int) -> None:
    said: Any = [{"role": "user", "content": " ".join(["word"] * words)}]
    client.chat.completions.create(model=MODEL, messages=said, max_tokens=WORDS)


def load(url: str, fake: FakeEngine, seconds: float) -> tuple[list[Line], list[Stop]]:
    """Ask for so long; returns the looks, and when all was stopped."""
    drawn, looks, stops = random.Random(17), list[Line](), list[Stop]()
    now = next_look = next_ask = time.time()
    end = now + seconds
    with processes.official(url) as client, ThreadPoolExecutor(16) as pool:
        asked = []
        while now < end:
            if now >= next_look:
                looks += look(url, fake)
                next_look += LOOK
            if now >= next_ask:
                asked.append(pool.submit(ask, client, drawn.randint(1, WORDS)))
                next_ask += drawn.expovariate(1 / PAUSE)
            time.sleep(max(0.0, min(next_look, next_ask) - time.time()))
            before, now = now, time.time()
            if (late := now - min(next_look, next_ask)) > STOPPED:
                stops.append(Stop(before, late))
                end, next_look, next_ask = end + late, next_look + late, next_ask + late
    for one in asked:
        one.exception()  # the record has what failed
    return looks, stops


def cut(line: Line, began: float, stops: Sequence[Stop]) -> Line | None:
    """`line` at its time without the stops before it; None where it `began` before the end of one
    and was over after its beginning."""
    at, rest = line
    if any(one.begin <= at and began <= one.begin + one.seconds + STOPPED for one in stops):
        return None
    return at - sum(one.seconds for one in stops if one.begin < at), rest


def look(url: str, fake: FakeEngine) -> list[Line]:
    """What the gateway sees now; nothing before its first look."""
    seen = snapshot(url)["gateway"]
    if seen is None:
        return []
    memory = (seen["memory"], fake.memory(), seen["disk_free"], seen["disk_total"])
    return [(time.time(), "\t".join(map(str, memory)))]


def requests(folder: Path) -> Iterator[tuple[float, Line]]:
    """The record's: when each began, and its line at the time of its end."""
    store = TrafficStore(Store(folder).root / FILE_NAME)
    with contextlib.closing(store):
        for one in store.between(0, time.time()):
            ttft = "" if one.ttft is None else f"{one.ttft:.5f}"
            figures = (one.status, f"{one.latency:.5f}", ttft, one.prompt_tokens)
            line = "\t".join(map(str, (*figures, one.completion_tokens)))
            yield one.time, (one.time + one.latency, line)


def main() -> None:
    target = Path(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 3600.0
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as name, FakeEngine("slow") as fake:
        folder = Path(name)
        os.environ["FAKE_KEY"] = fake.key
        api = {"url": f"{fake.url}/v1", "model": "slow", "key_variable": "FAKE_KEY"}
        with processes.serving(folder, folder / "none", models={MODEL: api}) as process:
            looks, stops = load(processes.url_of(process), fake, seconds)
            process.terminate()
            process.wait(60)
        asked = [cut(line, began, stops) for began, line in requests(folder)]
    lines = [(*one, "r") for one in asked if one]
    lines += [(*one, "s") for line in looks if (one := cut(line, line[0], stops))]
    text = "".join(f"{kind}\t{at:.3f}\t{rest}\n" for at, rest, kind in sorted(lines))
    target.write_text(text)
    say(f"{len(asked)} requests, {len(looks)} looks, stopped {len(stops)} times: {target}")


if __name__ == "__main__":
    main()
