"""What the two engines promise beyond the store's own tests."""

import itertools
from pathlib import Path

import pytest

from residency import sealed
from residency.errors import SealedError, SettingsError, StorageError
from residency.traffic import database
from residency.traffic.mask import masked, pseudonym
from residency.traffic.store import TrafficStore
from tests.traffic.exchanges import exchange
from tests.traffic.postgres import Server

_names = (f"engine_{number}" for number in itertools.count())


@pytest.fixture
def address(server: Server) -> str:
    return server.schema(next(_names))


def on_disk(server: Server, text: str, below: str = "data/base") -> bool:
    assert server.folder
    server.run("CHECKPOINT")  # what is in memory only is written, and what is dropped goes
    files = [file for file in (server.folder / below).rglob("*") if file.is_file()]
    assert files
    return any(text.encode() in file.read_bytes() for file in files)


def test_what_was_erased_is_in_no_file_of_the_table(server: Server, address: str) -> None:
    if server.folder is None:
        pytest.skip("the server's files are not ours to read")
    store = TrafficStore(address)
    for number in range(300):
        who = "bob" if number % 3 == 0 else "ada"
        one = exchange(number, f"secret-of-{who} {number}", subject=who)
        store.add([masked(one, store.salt) if number % 2 else one])
    assert on_disk(server, "secret-of-bob")
    assert store.erase("bob") == 100
    assert not on_disk(server, "secret-of-bob")
    assert not on_disk(server, pseudonym("bob", store.salt))
    assert on_disk(server, "secret-of-ada")
    store.close()


def test_a_lost_connection_is_an_error_and_the_next_call_makes_a_new_one(
    server: Server, address: str
) -> None:
    db = database.connect(address)
    ((process,),) = db.rows("SELECT pg_backend_pid()")
    server.run(f"SELECT pg_terminate_backend({process})")
    with pytest.raises(StorageError, match="cannot be read or written"):
        db.rows("SELECT 1")
    assert db.rows("SELECT 1") == [(1,)]
    db.close()


def test_a_locked_table_is_an_error_and_loses_nothing(address: str) -> None:
    import psycopg

    store = TrafficStore(address)
    with psycopg.connect(address) as other:
        other.execute("LOCK TABLE exchanges")
        with pytest.raises(StorageError, match="lock timeout"):
            store.add([exchange(1)])
    assert store.add([exchange(1)]) == 1
    store.close()


def test_an_error_quotes_no_row(address: str) -> None:
    store = TrafficStore(address)
    with pytest.raises(StorageError) as raised:
        store.add([exchange(1, "secret", latency=None)])
    assert "latency" in raised.value.message
    assert "secret" not in raised.value.message
    store.close()


def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StorageError, match=r"postgresql://127\.0\.0\.1/desk:") as raised:
        database.connect("postgresql://ada:hush@127.0.0.1:1/desk")
    assert "hush" not in raised.value.message


def test_an_address_that_is_none_is_not_repeated() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(SettingsError, match=r"traffic\.store") as raised:
        database.connect("postgresql://ada:hush%zz@127.0.0.1/desk")
    assert "hush" not in raised.value.message


@pytest.mark.parametrize(
    ("address", "beyond"),
    [
        ("postgresql://db.example.com/desk", True),
        ("postgresql://127.0.0.1,192.0.2.1/desk", True),
        ("postgresql://localhost/desk?hostaddr=192.0.2.1", True),
        ("postgresql:///desk?service=far", True),
        ("postgresql://127.0.0.1:1/desk", False),
        ("postgresql://%2Fnowhere/desk", False),
    ],
)
def test_a_sealed_process_reaches_no_server_beyond(
    monkeypatch: pytest.MonkeyPatch, address: str, beyond: bool
) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setenv(sealed.VARIABLE, "1")
    with pytest.raises(SealedError if beyond else StorageError):
        database.connect(address)


def test_in_a_sealed_process_the_environment_names_no_server_beyond_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setenv(sealed.VARIABLE, "1")
    monkeypatch.setenv("PGHOST", "db.example.com")
    with pytest.raises(SealedError, match=r"db\.example\.com"):
        database.connect("postgresql:///desk")


def test_an_insert_counts_what_is_new(where: Path | str) -> None:
    db = database.connect(where)
    db.run("CREATE TABLE t (id TEXT PRIMARY KEY)")
    sql = "INSERT INTO t VALUES (?) ON CONFLICT (id) DO NOTHING"
    assert db.insert(sql, [["a"], ["b"], ["a"]]) == 2
    assert db.insert(sql, [["b"], ["c"]]) == 1
    assert db.insert(sql, []) == 0
    db.close()
