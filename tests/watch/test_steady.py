"""Two hours of real, steady load, recorded, go through the rules: nothing false may be found.

Both are of a gateway before the fake engine `slow` (50 ms a word), asked every 1.4 s on average
with 1 to 30 words, on a machine whose two cores were busy with other work (`record_steady.py`). A
line is a request ("r": when it ended, status, latency, in `steady_tokens.tsv` the time to the first
token, tokens of prompt and answer) or a look ("s": time, memory of the gateway and of the engine,
free and whole disk).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from residency.config import WatchSettings
from residency.watch.observer import Observer
from residency.watch.samples import EngineSample, Sample
from tests.watch.events import event

HERE = Path(__file__).parent
FIRST, TOKENS = HERE / "steady.tsv", HERE / "steady_tokens.tsv"
SETTINGS = WatchSettings(p95=5.0)
FILLING = ["disk", "disk"]
"""In the second hour others put ten gigabytes on the disk within half an hour: after 25 and after
38 minutes it was going to be full in four to five hours, at the pace of then."""


def lines(file: Path) -> Iterator[tuple[str, list[float]]]:
    for line in file.read_text().splitlines():
        kind, *values = line.split("\t")
        yield kind, [float(one) for one in values]


def replay(
    file: Path, slowed_from: float = float("inf"), failing_from: float = float("inf")
) -> list[str]:
    """The rules that alerted, in their order; from those seconds on answers take three times as
    long, or every fifth request fails."""
    clock = [0.0]
    observer = Observer(["desk"], SETTINGS, lambda: clock[0])
    told, begin = list[str](), next(lines(file))[1][0]
    for number, (kind, values) in enumerate(lines(file)):
        clock[0] = values[0] - begin
        if kind == "s":
            _, gateway, engine, free, total = values
            known = EngineSample(model="desk", build="r1", pid=1, memory=int(engine))
            seen = Sample(time=values[0], memory=int(gateway), cpu=0.0, disk_free=int(free),
                          disk_total=int(total), engines=(known,))  # fmt: skip
            began = [one for one in observer.look(seen) if one.kind == "began"]
            told += [one.alert.finding.rule for one in began]
            continue
        _, status, latency, *first, prompt, answer = values
        times = 3.0 if clock[0] >= slowed_from else 1.0
        failed = clock[0] >= failing_from and number % 5 == 0
        observer.finished(
            event(
                time=values[0], status=502 if failed else int(status),
                error="engine_error" if failed else "", latency=latency * times,
                ttft=first[0] * times if first else None,
                prompt_tokens=int(prompt), completion_tokens=int(answer),
            )
        )  # fmt: skip
    return told


def late(file: Path) -> float:
    """Seven minutes before the end."""
    *_, (_, last) = lines(file)
    return last[0] - next(lines(file))[1][0] - 7 * 60.0


def test_an_hour_of_steady_load_raises_no_alarm() -> None:
    assert replay(FIRST) == []


def test_nor_do_the_times_of_its_tokens() -> None:
    assert replay(TOKENS) == FILLING


def test_the_same_hours_with_trouble_in_them_do() -> None:
    """So that the silence above is not that of rules which cannot speak."""
    assert replay(FIRST, slowed_from=late(FIRST)) == ["slower"]
    assert replay(TOKENS, slowed_from=late(TOKENS)) == [*FILLING, "slower", "speed"]
    assert replay(TOKENS, failing_from=late(TOKENS)) == [*FILLING, "errors"]
