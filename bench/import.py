"""How fast a log comes into the traffic store, and in how much memory.

    python bench/import.py [--count N] [--personal mask|keep|drop] [--store postgresql://...]

The log is made first: N calls as JSON lines of some 500 bytes, every fifth of which holds an e-mail
address and a telephone number. It is then imported twice; the second time adds nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from pathlib import Path

from residency.config import TrafficSettings
from residency.traffic.intake import Intake
from residency.traffic.store import FILE_NAME, TrafficStore

WORDS = (
    *("the", "my", "your", "tablets", "order", "refund", "clinic", "please", "invoice", "address"),
    *("delivery", "late", "card", "number", "when", "would", "like", "thank", "account", "reset"),
)


def call(number: int, rng: random.Random) -> str:
    asked = f"{' '.join(rng.choices(WORDS, k=20))} {rng.randrange(10**6)} since {number % 28} May"
    if number % 5 == 0:
        asked += f": write to person{number}@example.com or call 020 7946 {number % 10_000:04}"
    answer = {"role": "assistant", "content": " ".join(rng.choices(WORDS, k=12))}
    record = {
        "request": {"model": "large", "messages": [{"role": "user", "content": asked}]},
        "response": {
            "id": f"chatcmpl-{number:09}",
            "created": 1_800_000_000 + number,
            "model": "large",
            "choices": [{"index": 0, "message": answer, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 30, "completion_tokens": 12},
        },
    }
    return json.dumps(record) + "\n"


def run(store: TrafficStore, log: Path, settings: TrafficSettings) -> None:
    intake = Intake(store, settings)
    start = time.perf_counter()
    intake.run([log])
    seconds = time.perf_counter() - start
    print(f"{intake.read:,} read, {intake.added:,} added, {intake.rejected:,} bad lines")
    print(f"{intake.read / seconds:,.0f} exchanges/s over {seconds:.1f} s")


def peak(who: int) -> float:
    """Megabytes; Linux counts in kilobytes."""
    return resource.getrusage(who).ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--personal", choices=["mask", "keep", "drop"], default="mask")
    parser.add_argument("--store", default="")
    wanted = parser.parse_args()
    settings = TrafficSettings(store=wanted.store, personal=wanted.personal)
    rng = random.Random(17)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        with log.open("w") as file:
            file.writelines(call(number, rng) for number in range(wanted.count))
        print(f"{log.stat().st_size / wanted.count:.0f} bytes a call")
        store = TrafficStore(wanted.store or Path(folder) / FILE_NAME)
        for _ in range(2):
            run(store, log, settings)
        store.close()
    here, beside = peak(resource.RUSAGE_SELF), peak(resource.RUSAGE_CHILDREN)
    print(f"peak memory: {here:.0f} MB here, {beside:.0f} MB in the largest process beside")


if __name__ == "__main__":
    main()
