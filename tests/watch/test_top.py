"""The live view: a frame fits its terminal, and says what the snapshot says."""

import dataclasses
import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from residency.cli import main
from residency.config import WatchSettings
from residency.traffic.store import TrafficStore
from residency.types import Exchange
from residency.watch import top
from residency.watch.alerts import Alert, Finding
from residency.watch.finished import Finished
from residency.watch.observer import Observer
from residency.watch.recorded import Recorded
from residency.watch.samples import EngineSample, Sample
from tests.watch.exchanges import served


def observed(name: str = "desk", *engines: EngineSample, at: float = 1000.0) -> Observer:
    observer = Observer([name], WatchSettings())
    for n in range(100):
        observer.finished(
            Finished(
                id=f"r{n}",
                time=at,
                api="chat",
                model=name,
                status=200 if n % 10 else 503,
                error="" if n % 10 else "engine_timeout",
                latency=0.1 + n / 100,
                ttft=0.05,
                completion_tokens=20,
                route="local",
            )
        )
    sample = Sample(time=at, memory=100_000_000, cpu=1.0, disk_free=5 * 10**9, disk_total=10**10)
    observer.look(dataclasses.replace(sample, engines=engines, at_work=2))
    return observer


ENGINE = EngineSample(
    model="desk", build="desk-1", pid=7, memory=512_000_000, cpu=10.0, slots=4, busy=1, cache=0.25
)


def test_a_frame_says_what_is_there() -> None:
    text = "\n".join(top.frame(observed("desk", ENGINE).snapshot(), 80))
    for words in ("100", "10.0%", "desk-1", "512 MB", "1/4 slots", "cache 25%", "2 at work"):
        assert words in text, words
    assert "engine_timeout 10" in text and "no alerts" in text


@pytest.mark.parametrize(
    "name", ["desk", "a-very-long-name-" * 6, "诊所前台" * 20, "evil\033[2J\n"]
)
@pytest.mark.parametrize("columns", [20, 80, 132])
def test_every_line_fits(name: str, columns: int) -> None:
    down = EngineSample(model=name, build="b", down="it died of " + "a reason " * 30)
    lines = top.frame(observed(name, ENGINE, down).snapshot(), columns)
    assert max(map(top._columns, lines)) <= max(columns, 80)
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("name", ["desk", "clinic-desk"])
def test_figures_stand_under_their_heads(name: str) -> None:
    lines = top.frame(observed(name).snapshot(), 80)
    heads = next(line for line in lines if line.endswith("here"))
    rows = [line for line in lines if line.endswith("100%")]
    assert len(rows) == 5 and {len(row) for row in rows} == {len(heads)}


def test_the_use_of_processors_is_told_between_two_looks() -> None:
    one = observed("desk", ENGINE, at=1000.0).snapshot()
    later = dataclasses.replace(ENGINE, cpu=13.0)
    two = observed("desk", later, at=1002.0).snapshot()
    assert "1.5 cores" in "\n".join(top.frame(two, 80, one))
    assert "cores" not in "\n".join(top.frame(one, 80))


def test_alerts_say_what_to_try_first() -> None:
    snapshot = observed().snapshot()
    finding = Finding(
        rule="slow", where="desk", severity="page", value=2, bound=1, words="too slow", first="look"
    )
    alert = Alert(finding=finding, since=0.0).to_dict()
    text = "\n".join(top.frame({**snapshot, "alerts": [alert]}, 80))
    assert "page slow since 1970-01-01T00:00:00Z" in text
    assert "too slow" in text and "first: look" in text


def recent(count: int, now: float) -> list[Exchange]:
    return [
        served(
            n, "x", id=f"r{n}", time=now - 30 - n, latency=0.5, completion_tokens=10, model="desk"
        )
        for n in range(count)
    ]


def test_the_record_fills_the_same_windows(tmp_path: Path) -> None:
    now = time.time()
    store = TrafficStore(tmp_path / "traffic.db")
    store.add([*recent(20, now), served(99, "old", id="old", time=now - 3 * 86_400)])
    recorded = Recorded(store.between, WatchSettings(), ())
    snapshot = recorded.snapshot()
    assert snapshot["windows"]["24h"]["requests"] == snapshot["windows"]["5m"]["requests"] == 20
    assert snapshot["models"]["desk"]["5m"]["latency"]["p50"] == pytest.approx(0.5, rel=0.01)
    late = served(50, "x", id="late", time=now - 200, model="desk")
    store.add([late])
    assert recorded.snapshot()["windows"]["24h"]["requests"] == 21
    assert recorded.snapshot()["windows"]["24h"]["requests"] == 21
    assert "no gateway runs" in top.frame(snapshot, 80)[0]
    store.close()


def test_without_a_gateway_the_verb_shows_the_record(tmp_path: Path) -> None:
    (tmp_path / "residency.toml").write_text(
        'name = "desk"\n[data]\nfile = "d"\n[serve]\nport = 9\n'
    )
    (tmp_path / ".residency").mkdir()
    store = TrafficStore(tmp_path / ".residency" / "traffic.db")
    store.add(recent(5, time.time()))
    store.close()
    words = ["top", "--once", "--workspace", str(tmp_path)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "no gateway runs" in result.stdout
    found = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert found["windows"]["24h"]["requests"] == 5
    far = CliRunner().invoke(main, [*words, "--url", "http://127.0.0.1:9"])
    assert far.exit_code == 3, far.output
