"""The steps that brought the traffic store to its present form: numbered, and only ever added to.

Each is run once, in order, within one transaction, and uses no SQL that PostgreSQL does not have.
"""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path

from residency.errors import StorageError


def _exchanges(db: sqlite3.Connection) -> None:
    """What is filtered on has a column; bodies are JSON. `time` is in seconds since 1970."""
    db.execute(
        "CREATE TABLE exchanges ("
        "id TEXT PRIMARY KEY, time DOUBLE PRECISION NOT NULL, api TEXT NOT NULL, "
        "model TEXT NOT NULL, build TEXT NOT NULL, key TEXT NOT NULL, subject TEXT NOT NULL, "
        "request TEXT NOT NULL, response TEXT NOT NULL, status INTEGER NOT NULL, "
        "error TEXT NOT NULL, prompt_tokens BIGINT NOT NULL, completion_tokens BIGINT NOT NULL, "
        "latency DOUBLE PRECISION NOT NULL, ttft DOUBLE PRECISION, "
        "cost DOUBLE PRECISION NOT NULL, tags TEXT NOT NULL)"
    )
    db.execute("CREATE INDEX exchanges_time ON exchanges (time, id)")
    db.execute("CREATE INDEX exchanges_subject ON exchanges (subject)")


def _salt(db: sqlite3.Connection) -> None:
    """What the pseudonyms of subjects are made with, in hex."""
    db.execute("CREATE TABLE salts (salt TEXT NOT NULL)")
    db.execute("INSERT INTO salts VALUES (?)", (secrets.token_hex(32),))


MIGRATIONS = (_exchanges, _salt)


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Run what `db` has not seen yet; call it within a transaction.

    Raises `StorageError` when a newer residency has been here.
    """
    db.execute("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY)")
    done = db.execute("SELECT COUNT(*) FROM migrations").fetchone()[0]
    if done > len(MIGRATIONS):
        raise StorageError(
            f"{path}: its form is number {done}, and this residency knows {len(MIGRATIONS)}",
            hint="update residency",
        )
    for number, step in enumerate(MIGRATIONS[done:], done + 1):
        step(db)
        db.execute("INSERT INTO migrations VALUES (?)", (number,))
