from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from residency.config import WatchSettings
from residency.watch import rules, samples
from residency.watch.alerts import Finding, Key
from residency.watch.growth import Reading
from residency.watch.rules import Drift, Facts
from residency.watch.samples import Budget, EngineSample, Sample
from residency.watch.windows import Piece, Tally
from tests.watch.events import event

SETTINGS = WatchSettings()
USUAL = [Piece(0.2 + 0.01 * (n % 3), 0.01, 900) for n in range(12)]


def tally(count: int = 100, **changed: Any) -> Tally:
    made = Tally()
    for _ in range(count):
        made.add(event(**changed), 0.0)
    return made


def sample(**changed: Any) -> Sample:
    known = {"time": 0.0, "memory": 1, "cpu": 0.0, "disk_free": 50, "disk_total": 100}
    return Sample(**{**known, **changed})


def found(
    facts: Facts, settings: WatchSettings = SETTINGS, firing: Sequence[Key] = ()
) -> list[Finding]:
    return rules.findings(facts, settings, firing)


def names(facts: Facts, settings: WatchSettings = SETTINGS) -> list[tuple[str, str]]:
    return [(one.rule, one.severity) for one in found(facts, settings)]


def test_a_bound_on_latency() -> None:
    settings = WatchSettings(p95=0.5)
    assert names(Facts(recent={"desk": tally(latency=0.4)}), settings) == []
    (one,) = found(Facts(recent={"desk": tally(latency=0.6)}), settings)
    assert (one.rule, one.where, one.bound) == ("slow", "desk", 0.5)
    assert one.value == pytest.approx(0.6, rel=0.01)
    assert "0.6" in one.words and one.first
    assert names(Facts(recent={"desk": tally(count=10, latency=0.6)}), settings) == []


def test_a_value_at_its_bound_does_not_flicker() -> None:
    settings, facts = WatchSettings(p95=0.5), Facts(recent={"desk": tally(latency=0.48)})
    assert found(facts, settings) == []
    assert [one.rule for one in found(facts, settings, [Key("slow", "desk")])] == ["slow"]
    better = Facts(recent={"desk": tally(latency=0.44)})
    assert found(better, settings, [Key("slow", "desk")]) == []


def test_twice_as_slow_as_usual() -> None:
    past = {"desk": USUAL}
    assert names(Facts(recent={"desk": tally(latency=0.39, ttft=0.31)}, past=past)) == []
    facts = Facts(recent={"desk": tally(latency=0.5, ttft=0.42, queued=0.4)}, past=past)
    (one,) = found(facts)
    assert (one.rule, one.severity) == ("slower", "warn")
    assert "2.4 times" in one.words and "slot" in one.first
    # An hour of trouble does not become the usual.
    trouble = {"desk": [*USUAL, *USUAL, *(Piece(0.6, 0.01, 900) for _ in range(12))]}
    late = tally(latency=0.5, ttft=0.42)
    assert names(Facts(recent={"desk": late}, past=trouble)) == [("slower", "warn")]
    # Nor is there a usual yet after some minutes.
    assert names(Facts(recent={"desk": late}, past={"desk": USUAL[:5]})) == []


def test_answers_that_differ_widely_are_not_slower_by_chance() -> None:
    """Ten days of five minutes with sixty answers each, all of one heavy-tailed distribution."""
    drawn = random.Random(2)
    pieces: list[Piece] = []
    false = 0
    for _ in range(2880):
        made = Tally()
        for _ in range(60):
            made.latency.add(drawn.lognormvariate(0, 1))
            made.per_token.add(0.01 * drawn.lognormvariate(0, 0.5))
        false += bool(found(Facts(recent={"desk": made}, past={"desk": pieces[-288:]})))
        p95, median = made.latency.quantile(0.95), made.per_token.quantile(0.5)
        pieces.append(Piece(p95 or 0.0, median, 0))
    assert false <= 1


def test_tokens_that_come_slower() -> None:
    slow = tally(latency=0.02 + 8 * 0.025)  # 25 ms a token, usually 10
    (one,) = found(Facts(recent={"desk": slow}, past={"desk": USUAL}))
    assert one.rule == "speed"
    assert one.value == pytest.approx(40, rel=0.02)
    assert one.bound == pytest.approx(50)
    # Three times as many answers at once: each comes slower, all together do not.
    busy = tally(300, latency=0.02 + 8 * 0.025)
    assert names(Facts(recent={"desk": busy}, past={"desk": USUAL})) == []
    # Nor does it matter where a token takes no time at all.
    instant = [Piece(0.2, 0.0001, 900)] * 12
    assert names(Facts(recent={"desk": tally(latency=0.0216)}, past={"desk": instant})) == []


@pytest.mark.parametrize(
    ("failed", "of", "severity"),
    [
        (1, 1, None),
        (2, 2, None),
        (1, 30, None),
        (3, 400, None),
        (12, 400, "warn"),
        (40, 400, "page"),
        (5, 5, "page"),
    ],
)
def test_errors_count_when_they_are_too_many_for_certain(
    failed: int, of: int, severity: str | None
) -> None:
    made = tally(of - failed)
    for _ in range(failed):
        made.add(event(status=502, error="engine_error"), 0.0)
    result = found(Facts(recent={"desk": made}))
    assert [one.severity for one in result] == ([severity] if severity else [])
    if severity:
        assert f"{failed} of {of}" in result[0].words and "engine_error" in result[0].words


def test_what_clients_do_wrong_is_no_error_of_ours() -> None:
    made = tally(50)
    for status in (400, 401, 404, 429, 499):
        made.merge(tally(50, status=status, error="theirs"))
    assert names(Facts(recent={"desk": made})) == []


def test_an_engine_that_is_down() -> None:
    engines = (EngineSample(model="desk", build="r1", down="it was killed"),)
    (one,) = found(Facts(recent={}, sample=sample(engines=engines)))
    assert (one.rule, one.where, one.severity) == ("down", "desk", "page")
    assert "it was killed" in one.words


def test_a_budget_that_is_nearly_spent() -> None:
    def with_spent(spent: float) -> Facts:
        budgets = {"big": Budget(spent=spent, limit=100.0)}
        return Facts(recent={}, sample=sample(budgets=budgets))

    assert names(with_spent(79.0)) == []
    assert names(with_spent(80.0)) == [("budget", "warn")]
    assert names(with_spent(96.0)) == [("budget", "page")]


def test_a_disk_that_fills() -> None:
    assert names(Facts(recent={}, sample=sample(disk_free=6))) == []
    assert names(Facts(recent={}, sample=sample(disk_free=4))) == [("disk", "warn")]
    assert names(Facts(recent={}, sample=sample(disk_free=0))) == [("disk", "page")]
    # Half of it is free, and gone in an hour.
    falling = tuple(Reading(60.0 * n, 80 - n * 0.8) for n in range(30))
    (one,) = found(Facts(recent={}, sample=sample(disk_free=50), disk=falling))
    assert one.rule == "disk" and "full in 1.0 h" in one.words
    still = tuple(Reading(60.0 * n, 80.0) for n in range(30))
    assert names(Facts(recent={}, sample=sample(), disk=still)) == []


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes that is full."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets us mount no file system")
    try:
        with pytest.raises(OSError, match="No space left"), (place / "file").open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_full(full_disk: Path) -> None:
    free, total = samples.disk_use(full_disk)
    facts = Facts(recent={}, sample=sample(disk_free=free, disk_total=total))
    assert names(facts) == [("disk", "page")]


def test_drift_is_passed_on() -> None:
    moved = Drift(where="categories", value=0.3, bound=0.1, words="w", first="f")
    assert names(Facts(recent={}, drift=[moved])) == [("drift", "warn")]


LEAKS = """
import sys, time
kept = []
for _ in range(40):
    kept.append(bytearray({size}))
    time.sleep(0.02)
    print(len(kept), flush=True)
"""


@pytest.mark.parametrize("size", [2_000_000, 0])
def test_a_process_that_leaks(size: int) -> None:
    """Its real memory, read 40 times while it leaks two megabytes each time, or nothing; each
    reading is taken as one of a minute."""
    readings = []
    command = [sys.executable, "-c", LEAKS.format(size=size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for number, _ in enumerate(process.stdout):
            try:
                memory = psutil.Process(process.pid).memory_info().rss
            except psutil.NoSuchProcess:
                break
            if memory:  # none: it has just ended
                readings.append(Reading(60.0 * number, float(memory)))
    assert len(readings) > 30
    result = found(Facts(recent={}, memory={"engine of desk": tuple(readings)}))
    if not size:
        assert result == []
        return
    (one,) = result
    assert (one.rule, one.where) == ("memory", "engine of desk")
    assert one.value == pytest.approx(size * 60, rel=0.1)  # bytes an hour
    assert "120 MB an hour" in one.words or "119 MB" in one.words


def test_memory_that_is_only_noisy_is_no_leak() -> None:
    drawn, false = random.Random(11), 0
    for _ in range(100):
        noisy = tuple(Reading(60.0 * n, drawn.gauss(1e9, 5e7)) for n in range(60))
        false += bool(found(Facts(recent={}, memory={"gateway": noisy})))
    assert false == 0


def test_the_use_of_a_process_counts_its_children() -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', {!r}])"
    inner = "import time; kept = bytearray(b'x') * 50_000_000; print(1, flush=True); time.sleep(30)"
    command = [sys.executable, "-c", child.format(inner)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        use = samples.process_use(process.pid)
        for one in psutil.Process(process.pid).children():
            one.kill()
    assert use.memory > 50_000_000
    assert use.cpu > 0
    assert samples.process_use(process.pid) == samples.ProcessUse(0, 0.0)


def test_this_process() -> None:
    begin = samples.process_use()
    end = time.perf_counter() + 0.05
    while time.perf_counter() < end:
        pass
    assert samples.process_use().cpu > begin.cpu
    assert begin.memory == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)
