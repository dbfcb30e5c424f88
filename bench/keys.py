"""Whether the time of a refusal says which IDs of keys exist.

    python bench/keys.py [--rounds N]

Asks the ring with a wrong secret of a key that exists, and with an ID that does not, in turn, so
that what else runs on the machine hits both. Prints quantiles of each and of the differences within
a round, and the share of rounds in which the ID that exists took longer: 0.5 tells nothing.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import tempfile
import time
from pathlib import Path

from residency.serve.asked import Caller
from residency.serve.errors import RequestError
from residency.serve.keys import KeyRing

KEYS = 100


def refuse(ring: KeyRing, token: str) -> int:
    """Nanoseconds until the token is refused."""
    start = time.perf_counter_ns()
    try:
        ring.verify(token, 0.0)
    except RequestError:
        return time.perf_counter_ns() - start
    raise AssertionError("a wrong token was let in")


def measure(ring: KeyRing, known: str, rounds: int) -> tuple[list[int], list[int]]:
    """Both times of each round; which comes first alternates, and every token is a new one."""
    wrong: list[int] = []
    unknown: list[int] = []
    for number in range(rounds):
        secret = secrets.token_urlsafe(32)
        asks = [(wrong, f"res-{known}-{secret}"), (unknown, f"res-{secrets.token_hex(6)}-{secret}")]
        for times, token in asks if number % 2 else reversed(asks):
            times.append(refuse(ring, token))
    return wrong, unknown


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=50_000)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        ring = KeyRing(Path(folder) / "keys.json")
        for number in range(KEYS):
            ring.add(Caller(name=f"k{number}"), expires=None, now=0.0)
        wrong, unknown = measure(ring, ring.every()[KEYS // 2].id, rounds)
    differences = [a - b for a, b in zip(wrong, unknown, strict=True)]
    rows = {"wrong secret": wrong, "unknown id": unknown, "difference": differences}
    for name, values in rows.items():
        p5, *_, p95 = statistics.quantiles(values, n=20)
        print(f"{name:14} p5 {p5:8.0f}  p50 {statistics.median(values):8.0f}  p95 {p95:8.0f} ns")
    longer = sum(d > 0 for d in differences) / rounds
    print(f"wrong secret took longer in {longer:.3f} of {rounds} rounds")


if __name__ == "__main__":
    main()
