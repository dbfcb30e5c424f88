"""Time and memory of the watch report by the number of recorded calls.

    python bench/report.py [--calls 100000 1000000]

For each number a store is filled and `residency watch report` is run in a process of its own, whose
largest resident memory is told. Beside it the peer's way: pandas reads all of it and groups it
(where pandas is installed).
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from residency.traffic.store import TrafficStore
from residency.types import Exchange

DAY = 86_400.0
SETTINGS = 'name = "desk"\n[data]\nfile = "d.jsonl"\n'
PEER = """
import json, sqlite3, sys
import pandas
table = pandas.read_sql("SELECT * FROM exchanges", sqlite3.connect(sys.argv[1]))
table["step"] = table["time"] // 14400
for name in ("request", "response", "tags"):
    table[name] = table[name].map(json.loads)
table.groupby("step")[["latency", "ttft"]].quantile([0.5, 0.95, 0.99])
"""


def calls(count: int, now: float) -> Iterator[Exchange]:
    """Over five weeks, oldest first; some 5,000 distinct questions."""
    chance = random.Random(17)
    for n in range(count):
        text = f"where is the letter {chance.randrange(50)} about the visit {chance.randrange(100)}"
        message = {"role": "assistant", "content": f"in the folder {chance.randrange(9)}"}
        yield Exchange(
            id=f"c{n:08}",
            time=now - 35 * DAY * (1 - n / count) - 1,
            api="chat",
            model="desk",
            request={"model": "desk", "messages": [{"role": "user", "content": text}]},
            response={"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]},
            status=200,
            prompt_tokens=chance.randrange(20, 90),
            completion_tokens=chance.randrange(5, 40),
            latency=chance.lognormvariate(-1.0, 0.5),
            ttft=0.05,
            tags={"routes": ["desk"]},
        )


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds, and the most memory of the process in MB."""
    began = time.monotonic()
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], capture_output=True)\n"
        "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=True
    )
    status, kilobytes = done.stdout.split()
    if int(status):
        raise SystemExit(f"failed: {' '.join(command)[:80]}")
    return time.monotonic() - began, int(kilobytes) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, nargs="+", default=[100_000, 1_000_000])
    for count in parser.parse_args().calls:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "residency.toml").write_text(SETTINGS)
            (folder / ".residency").mkdir()
            store = TrafficStore(folder / ".residency" / "traffic.db")
            store.add(calls(count, time.time()))
            store.close()
            ours = measured(
                [sys.executable, "-m", "residency", "watch", "report", "--since", "30d",
                 "--workspace", name]
            )  # fmt: skip
            row = {"calls": count, "seconds": round(ours[0], 1), "memory_mb": round(ours[1])}
            if find_spec("pandas"):
                peer = measured([sys.executable, "-c", PEER, str(folder / ".residency/traffic.db")])
                row |= {
                    "pandas_seconds": round(peer[0], 1),
                    "pandas_memory_mb": round(peer[1]),
                    "memory_ratio": round(peer[1] / ours[1], 1),
                }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
