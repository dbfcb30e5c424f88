"""What counting a finished request costs, in microseconds of processor time.

    python bench/watch.py [--requests N] [--rounds N]

Ours (`Observer.finished`: sliding windows of percentiles, and Prometheus's metrics) beside
OpenTelemetry's SDK, which records the same four histograms and no windows; rounds alternate. Below
it what a look at them costs: a snapshot, a scrape, and the rules of the alerts.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable

from residency.config import WatchSettings
from residency.watch.finished import Finished
from residency.watch.observer import Observer
from residency.watch.samples import EngineSample, Sample

MODELS = [f"model-{n}" for n in range(5)]


def requests(count: int) -> list[Finished]:
    """Answers of five models, with the spread of latencies that real ones have."""
    drawn = random.Random(1)
    return [
        Finished(
            id=f"req_{n}", time=1.8e9 + n, api="chat", model=MODELS[n % 5], status=200,
            latency=1.0 + drawn.lognormvariate(-1, 1), ttft=min(1.0, drawn.lognormvariate(-3, 0.5)),
            prompt_tokens=drawn.randint(20, 900), completion_tokens=drawn.randint(2, 200),
            route="local", target=MODELS[n % 5], build="r1",
        )
        for n in range(count)
    ]  # fmt: skip


def opentelemetry() -> Callable[[Finished], None]:
    """The peer: the SDK's histograms with a reader that keeps them in memory."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    meter = MeterProvider(metric_readers=[InMemoryMetricReader()]).get_meter("bench")
    duration, first, token, used = (meter.create_histogram(name) for name in "abcd")

    def record(event: Finished) -> None:
        known = {"gen_ai.operation.name": event.api, "gen_ai.request.model": event.model}
        duration.record(event.latency, known)
        first.record(event.ttft or 0.0, known)
        token.record(event.per_token or 0.0, known)
        used.record(event.prompt_tokens, {**known, "gen_ai.token.type": "input"})
        used.record(event.completion_tokens, {**known, "gen_ai.token.type": "output"})

    return record


def microseconds(work: Callable[[Finished], None], events: list[Finished]) -> float:
    begin = time.process_time()
    for event in events:
        work(event)
    return 1e6 * (time.process_time() - begin) / len(events)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    events = requests(given.requests)
    clock = [0.0]

    def tick() -> float:
        clock[0] += 0.05  # twenty requests a second, so that slices close as they would
        return clock[0]

    observer = Observer(MODELS, WatchSettings(api_price_in=1.0, api_price_out=2.0), tick)
    ways = {"ours": observer.finished, "OpenTelemetry's SDK": opentelemetry()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(given.rounds):
        for name in list(ways) if number % 2 else reversed(ways):
            times[name].append(microseconds(ways[name], events))
    found = {name: statistics.median(one) for name, one in times.items()}
    for name, value in found.items():
        print(f"{name:24}{value:>8.1f} us a request")
    ours, theirs = found.values()
    print(f"{'ratio':24}{ours / theirs:>8.2f}")

    engines = tuple(
        EngineSample(model=name, build="r1", pid=n + 1, memory=10**9)
        for n, name in enumerate(MODELS)
    )
    for number in range(100):
        minute = 1.8e9 + 60.0 * number
        seen = Sample(time=minute, memory=10**8, cpu=1.0, disk_free=50, disk_total=100,
                      engines=engines)  # fmt: skip
        observer.look(seen)
    for name, work in (
        ("a snapshot", observer.snapshot),
        ("a scrape", observer.exposition),
        ("a look with its rules", lambda: observer.look(seen)),
    ):
        begin = time.process_time()
        for _ in range(10):
            work()
        print(f"{name:24}{1e2 * (time.process_time() - begin):>8.1f} ms")


if __name__ == "__main__":
    main()
