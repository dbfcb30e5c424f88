"""An hour of real, steady load, recorded, goes through the rules: nothing may be found.

`steady.tsv` is of a gateway before the fake engine `slow` (50 ms a word), asked every 1.4 s on
average with 1 to 30 words, on a machine whose two cores were busy with other work. A line is a
request ("r": when it ended, status, latency, tokens of prompt and answer)
or a look ("s": time, memory of the gateway and of the engine, free and whole disk).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from residency.config import WatchSettings
from residency.watch.observer import Observer
from residency.watch.samples import EngineSample, Sample
from tests.watch.events import event

RECORDED = Path(__file__).parent / "steady.tsv"
SETTINGS = WatchSettings(p95=5.0)


def lines() -> Iterator[tuple[str, list[float]]]:
    for line in RECORDED.read_text().splitlines():
        kind, *values = line.split("\t")
        yield kind, [float(one) for one in values]


def replay(slowed_from: float = float("inf"), failing_from: float = float("inf")) -> list[str]:
    """The rules that alerted, in their order; from those seconds on answers take three times as
    long, or every fifth request fails."""
    clock = [0.0]
    observer = Observer(["desk"], SETTINGS, lambda: clock[0])
    told, begin = list[str](), next(lines())[1][0]
    for number, (kind, values) in enumerate(lines()):
        clock[0] = values[0] - begin
        if kind == "s":
            _, gateway, engine, free, total = values
            known = EngineSample(model="desk", build="r1", pid=1, memory=int(engine))
            seen = Sample(time=values[0], memory=int(gateway), cpu=0.0, disk_free=int(free),
                          disk_total=int(total), engines=(known,))  # fmt: skip
            began = [one for one in observer.look(seen) if one.kind == "began"]
            told += [one.alert.finding.rule for one in began]
            continue
        _, status, latency, prompt, answer = values
        times = 3.0 if clock[0] >= slowed_from else 1.0
        failed = clock[0] >= failing_from and number % 5 == 0
        observer.finished(
            event(
                time=values[0], status=502 if failed else int(status),
                error="engine_error" if failed else "", latency=latency * times,
                ttft=None, prompt_tokens=int(prompt), completion_tokens=int(answer),
            )
        )  # fmt: skip
    return told


def test_an_hour_of_steady_load_raises_no_alarm() -> None:
    assert replay() == []


def test_the_same_hour_with_trouble_in_it_does() -> None:
    """So that the silence above is not that of rules which cannot speak."""
    end = [values[0] for _, values in lines()]
    late = end[-1] - end[0] - 7 * 60.0
    assert replay(slowed_from=late) == ["slower"]
    assert replay(failing_from=late) == ["errors"]
