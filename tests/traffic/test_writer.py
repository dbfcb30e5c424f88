"""Nothing that was offered is lost: not while the store stalls, not at the end, not by a kill."""

import multiprocessing
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from residency.traffic.mask import pseudonym
from residency.traffic.store import TrafficStore, row
from residency.traffic.writer import Recorder, least_now
from tests.traffic.exchanges import exchange


def recorder(store: TrafficStore, **fields: int) -> Recorder:
    return Recorder(store, **{"mode": "whole", "retention_days": 0} | fields)  # type: ignore[arg-type]


def until(condition: Callable[[], bool]) -> None:
    """Wait for what has to come; a test that hangs here is stopped by hand or by CI."""
    while not condition():
        time.sleep(0.01)


def test_what_is_offered_is_kept(either: TrafficStore) -> None:
    writer = recorder(either, batch=7)
    many = [exchange(n) for n in range(100)]
    for one in many:
        writer.offer(one)
    assert writer.close() == 0
    assert (writer.written, writer.waiting, writer.failures) == (100, 0, 0)
    assert list(either.between(0, 1e12)) == many


def test_it_is_written_without_waiting_for_more(store: TrafficStore, path: Path) -> None:
    writer = recorder(store)
    writer.offer(exchange(1))
    until(lambda: writer.written == 1)
    assert TrafficStore(path).count() == 1
    writer.close()


def test_masked_is_what_it_says(store: TrafficStore, path: Path) -> None:
    writer = Recorder(store, mode="masked", retention_days=0)
    writer.offer(exchange(1, "write to bob@example.com", subject="bob"))
    writer.close()
    (kept,) = store.between(0, 1e12)
    assert kept.request["messages"][0]["content"] == "write to [EMAIL_1]"
    assert kept.subject == pseudonym("bob", store.salt)
    assert b"bob" not in b"".join(file.read_bytes() for file in path.parent.glob("traffic.db*"))
    assert store.erase("bob") == 1


def test_a_locked_store_is_waited_for_and_told_once(
    store: TrafficStore, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writer = recorder(store, limit=3)
    writer.offer(exchange(1))
    assert not writer.full
    writer.offer(exchange(2))
    writer.offer(exchange(3))
    assert writer.full
    writer.offer(exchange(4))  # was under way before it was full
    until(lambda: writer.failures >= 2)
    assert writer.waiting == 4
    other.execute("ROLLBACK")
    assert writer.close() == 0
    assert not writer.full or writer.waiting == 0
    assert [e.id for e in store.between(0, 1e12)] == [exchange(n).id for n in range(1, 5)]
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "locked" in line] == said[:1]
    assert said[1:] == ["traffic: exchanges are written again"]


def test_long_bodies_fill_it_too(store: TrafficStore, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writer = recorder(store, room=1000)
    writer.offer(exchange(1, "x" * 900))
    assert not writer.full
    writer.offer(exchange(2, "x" * 900))
    assert writer.full
    other.execute("ROLLBACK")
    until(lambda: writer.written == 2)
    until(lambda: not writer.full)
    writer.close()


def test_the_end_does_not_wait_for_ever_and_counts_what_is_lost(
    store: TrafficStore, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writer = recorder(store)
    writer.offer(exchange(1))
    writer.offer(exchange(2))
    assert writer.close(seconds=0.1) == 2
    assert "2 exchanges could not be written and are lost" in capsys.readouterr().err
    other.execute("ROLLBACK")


def test_what_is_too_old_goes_at_the_start(either: TrafficStore) -> None:
    now = time.time()
    either.add([exchange(1, time=now - 3 * 86_400), exchange(2, time=now - 1.9 * 86_400)])
    recorder(either, retention_days=2).close()
    assert [e.id for e in either.between(0, 1e12)] == [exchange(2).id]


def test_an_import_is_kept_from_when_it_came(either: TrafficStore) -> None:
    now = time.time()
    either.add_rows([row(exchange(1, time=1.0), now), row(exchange(2, time=now), now - 3 * 86_400)])
    recorder(either, retention_days=2).close()
    assert [e.id for e in either.between(0, 1e12)] == [exchange(1).id]


@pytest.mark.parametrize(("wall", "least"), [(1010.0, 1010.0), (9e9, 1010.0), (500.0, 500.0)])
def test_a_clock_that_jumps_ages_nothing(wall: float, least: float) -> None:
    assert least_now((1000.0, 7.0), (wall, 17.0)) == least


def test_a_fault_of_ours_takes_no_new_work(
    store: TrafficStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    monkeypatch.setattr("threading.excepthook", seen.append)
    writer = recorder(store)
    writer.offer(exchange(1, tags={"not JSON": object()}))
    until(lambda: writer.full)
    assert writer.close() == 1
    assert len(seen) == 1


def _record_until_killed(path: Path, said: Connection) -> None:
    writer = recorder(TrafficStore(path), batch=50)
    for number in range(sys.maxsize):
        writer.offer(exchange(number, "x" * 500))
        if number % 100 == 0:
            said.send(writer.written)
        if writer.waiting > 2000:
            time.sleep(0.01)


def test_a_kill_loses_nothing_that_counted_as_written(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    heard, said = spawn.Pipe(duplex=False)
    other = spawn.Process(target=_record_until_killed, args=(path, said))
    other.start()
    written = 0
    while written < 2000:
        written = heard.recv()
    assert other.pid
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    while heard.poll():
        written = heard.recv()
    store = TrafficStore(path)
    kept = list(store.between(0, 1e12))
    assert len(kept) >= written
    assert kept == [exchange(n, "x" * 500) for n in range(len(kept))]
    store.add([exchange(n, "x" * 500) for n in range(len(kept) + 10)])
    assert store.count() == len(kept) + 10
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchall() == [("ok",)]
