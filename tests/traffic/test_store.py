"""What was added comes back as it was, survives a kill, and is gone for good once erased."""

import multiprocessing
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from residency.config import TrafficSettings
from residency.errors import InputError, StorageError
from residency.traffic.mask import masked, pseudonym
from residency.traffic.store import TrafficStore, place
from residency.types import Exchange
from tests.traffic.exchanges import NOON, exchange


def everything(store: TrafficStore) -> list[Exchange]:
    return list(store.between(-1e12, 1e12))


def on_disk(path: Path, text: str) -> bool:
    code = text.encode()
    return any(code in file.read_bytes() for file in path.parent.glob("traffic.db*"))


TEXT = st.text(st.characters())  # lone surrogates too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.dictionaries(TEXT, JSON, max_size=3), ttft=st.none() | st.floats(0, 100))
def test_what_was_put_in_comes_out(
    opened: Callable[[], TrafficStore], body: dict[str, object], ttft: float | None
) -> None:
    store = opened()
    one = exchange(0, request=body, response=None, tags=body, ttft=ttft, cost=0.5, subject="bob")
    store.expire(1e12)
    store.add([one])
    assert everything(store) == [one]
    store.close()


def test_the_same_exchange_is_kept_once(either: TrafficStore) -> None:
    either.add([exchange(1), exchange(2)])
    either.add([exchange(2, "again"), exchange(3), exchange(3)])
    assert everything(either) == [exchange(1), exchange(2), exchange(3)]
    assert either.count() == 3


def test_a_batch_is_kept_whole_or_not_at_all(either: TrafficStore) -> None:
    with pytest.raises(StorageError):
        either.add([exchange(1), exchange(2, latency=None)])
    assert either.count() == 0
    either.add([exchange(1)])
    assert either.count() == 1


def test_between_goes_by_time_with_the_start_and_without_the_end(either: TrafficStore) -> None:
    many = [exchange(n, time=NOON + n // 3) for n in range(1200)]
    either.add(random.Random(5).sample(many, len(many)))
    assert list(either.between(NOON, NOON + 400)) == many
    assert list(either.between(NOON + 1, NOON + 2)) == many[3:6]


def test_a_reader_that_waits_holds_up_neither_writer_nor_erasure(
    opened: Callable[[], TrafficStore],
) -> None:
    store, other = opened(), opened()
    store.add([exchange(n, subject="bob") for n in range(600)])
    reading = other.between(NOON, NOON + 1000)
    assert next(reading) == exchange(0, subject="bob")
    assert store.erase("bob") == 600
    assert len(list(reading)) == 499  # the page that it had


@pytest.mark.parametrize("hidden", [False, True], ids=["whole", "masked"])
def test_what_was_erased_is_in_no_file(store: TrafficStore, path: Path, hidden: bool) -> None:
    rng = random.Random(7)
    rows = []
    for number in range(900):
        who = "bob" if number % 3 == 0 else "ada"
        size = rng.choice([1, 20, 3000])  # within a page, and over several
        one = exchange(number, f"secret-of-{who} {'x' * size} {number}", subject=who)
        rows.append(masked(one, store.salt) if hidden else one)
    rng.shuffle(rows)  # pages are split, and rows moved
    for start in range(0, 900, 100):
        store.add(rows[start : start + 100])
    assert on_disk(path, "secret-of-bob")
    assert store.erase("bob") == 300
    assert not on_disk(path, "secret-of-bob")
    assert not on_disk(path, pseudonym("bob", store.salt))
    assert on_disk(path, "secret-of-ada")
    assert store.count() == 600
    assert store.erase("bob") == 0


def test_erasing_nobody_leaves_those_without_a_subject(either: TrafficStore) -> None:
    either.add([exchange(1)])
    with pytest.raises(InputError, match="no subject"):
        either.erase("")
    assert either.count() == 1


def test_a_subject_can_be_any_text(either: TrafficStore) -> None:
    either.add([exchange(1, subject="\ud800"), exchange(2, subject="%"), exchange(3, subject="x")])
    either.add([exchange(4, subject="\0")])
    assert [either.erase(who) for who in ("\ud800", "%", "\0")] == [1, 1, 1]


def test_an_erasure_that_a_reader_prevents_says_so_and_can_be_repeated(path: Path) -> None:
    store = TrafficStore(path)
    store.add([exchange(1, "secret", subject="bob")])
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM exchanges").fetchone()
    with pytest.raises(StorageError, match="another process is reading"):
        store.erase("bob")
    reader.execute("COMMIT")
    assert store.erase("bob") == 0
    assert not on_disk(path, "secret")


def test_what_is_too_old_goes(either: TrafficStore) -> None:
    either.add([exchange(n) for n in range(10)])
    assert either.expire(NOON + 4) == 4
    assert everything(either) == [exchange(n) for n in range(4, 10)]


def test_what_was_too_old_is_in_no_file(store: TrafficStore, path: Path) -> None:
    store.add([exchange(n, f"said-{n}.") for n in range(10)])
    store.expire(NOON + 4)
    assert not on_disk(path, "said-3.")
    assert on_disk(path, "said-4.")


def test_only_its_owner_can_read_it(store: TrafficStore, path: Path) -> None:
    store.add([exchange(1)])
    files = list(path.parent.glob("traffic.db*"))
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) & 0o077 for file in files} == {0}


def test_a_damaged_store_is_named(path: Path) -> None:
    path.write_bytes(b"not a database, " * 100)
    with pytest.raises(StorageError, match=r"traffic\.db: the exchanges cannot be read"):
        TrafficStore(path)


def test_a_locked_store_is_an_error_and_loses_nothing(store: TrafficStore, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="locked"):
        store.add([exchange(1)])
    other.execute("ROLLBACK")
    store.add([exchange(1)])
    assert store.count() == 1


def _open(where: Path | str, number: int) -> None:
    store = TrafficStore(where)
    store.add([exchange(number * 100 + n) for n in range(20)])


def test_processes_may_open_a_new_one_at_once(where: Path | str) -> None:
    spawn = multiprocessing.get_context("spawn")
    others = [spawn.Process(target=_open, args=(where, n)) for n in range(3)]
    for one in others:
        one.start()
    for one in others:
        one.join()
    assert [one.exitcode for one in others] == [0, 0, 0]
    assert TrafficStore(where).count() == 60


def _add_and_die(where: Path | str) -> None:
    store = TrafficStore(where)
    store.add([exchange(n) for n in range(700)])

    def dying() -> Iterator[Exchange]:
        yield from (exchange(n, "x" * 5000) for n in range(700, 900))
        os.kill(os.getpid(), signal.SIGKILL)

    store.add(dying())


def test_a_kill_leaves_whole_batches(where: Path | str) -> None:
    other = multiprocessing.get_context("spawn").Process(target=_add_and_die, args=(where,))
    other.start()
    other.join()
    assert other.exitcode == -signal.SIGKILL
    store = TrafficStore(where)
    assert everything(store) == [exchange(n) for n in range(700)]
    store.add([exchange(n) for n in range(900)])
    assert everything(store) == [exchange(n) for n in range(900)]
    if isinstance(where, Path):
        assert sqlite3.connect(where).execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_the_settings_say_where_it_is(tmp_path: Path) -> None:
    address = "postgresql://127.0.0.1/desk"
    assert place(tmp_path, TrafficSettings()) == tmp_path / "traffic.db"
    assert place(tmp_path, TrafficSettings(store=address)) == address


def test_a_second_connection_of_a_process_takes_no_lock_from_the_first(tmp_path: Path) -> None:
    """Another process that comes and goes would otherwise remove the log that the first writes."""
    path = tmp_path / "traffic.db"
    first, second = TrafficStore(path), TrafficStore(path)
    other = multiprocessing.get_context("spawn").Process(target=_come_and_go, args=(path,))
    other.start()
    other.join()
    assert other.exitcode == 0
    first.add([exchange(1, id="kept")])
    query = "SELECT id FROM exchanges"
    code = f"import sqlite3; print(sqlite3.connect({str(path)!r}).execute({query!r}).fetchall())"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "kept" in seen.stdout
    first.close()
    second.close()


def _come_and_go(path: Path) -> None:
    store = TrafficStore(path)
    assert not store.count()
    store.close()
