"""Every form that a store ever had becomes the present one, with its rows."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from residency.errors import StorageError
from residency.traffic import migrations
from residency.traffic.store import TrafficStore
from tests.traffic.exchanges import exchange

OLDEST = """
CREATE TABLE migrations (number INTEGER PRIMARY KEY);
INSERT INTO migrations VALUES (1);
CREATE TABLE exchanges (id TEXT PRIMARY KEY, time DOUBLE PRECISION NOT NULL, api TEXT NOT NULL,
    model TEXT NOT NULL, build TEXT NOT NULL, key TEXT NOT NULL, subject TEXT NOT NULL,
    request TEXT NOT NULL, response TEXT NOT NULL, status INTEGER NOT NULL, error TEXT NOT NULL,
    prompt_tokens BIGINT NOT NULL, completion_tokens BIGINT NOT NULL,
    latency DOUBLE PRECISION NOT NULL, ttft DOUBLE PRECISION, cost DOUBLE PRECISION NOT NULL,
    tags TEXT NOT NULL);
INSERT INTO exchanges VALUES ('req_000001', 1800000001.0, 'chat', 'clinic-desk', '', 'ada', '',
    '{"messages": [{"role": "user", "content": "hello"}]}',
    '{"choices": [{"message": {"role": "assistant", "content": "yes"}}]}',
    200, '', 0, 0, 0.25, NULL, 0.0, '{}');
"""


def schema(path: Path) -> list[str]:
    named = "name LIKE '%salt%' OR name LIKE '%stored%' OR name LIKE '%feedback%'"
    rows = sqlite3.connect(path).execute(f"SELECT sql FROM sqlite_master WHERE {named}")
    return [row[0] for row in rows]


def test_the_oldest_becomes_the_newest(tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    with sqlite3.connect(old) as db:
        db.executescript(OLDEST)
    store = TrafficStore(old)
    assert list(store.between(0, 1e12)) == [exchange(1)]
    assert (store.expire(1800000001.0), store.expire(1800000002.0)) == (0, 1)
    TrafficStore(new)
    assert schema(old) == schema(new) != []


def test_a_second_opening_changes_nothing(opened: Callable[[], TrafficStore]) -> None:
    first = opened()
    first.add([exchange(1)])
    second = opened()
    assert second.salt == first.salt
    assert len(first.salt) == 32
    assert second.count() == 1


def test_workspaces_have_salts_of_their_own(tmp_path: Path) -> None:
    assert TrafficStore(tmp_path / "a.db").salt != TrafficStore(tmp_path / "b.db").salt


def test_a_newer_form_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "traffic.db"
    TrafficStore(path)
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO migrations VALUES (?)", (len(migrations.MIGRATIONS) + 1,))
    with pytest.raises(StorageError, match=r"traffic\.db: its form is number 5.*knows 4"):
        TrafficStore(path)
