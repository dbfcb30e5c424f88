"""The steps that brought the traffic store to its present form: numbered, and only ever added to.

Each is run once, in order, within one transaction, and uses no SQL that PostgreSQL does not have.
"""

from __future__ import annotations

import secrets

from residency.errors import StorageError
from residency.traffic.database import Database


def _exchanges(db: Database) -> None:
    """What is filtered on has a column; bodies are JSON. `time` is in seconds since 1970."""
    db.run(
        "CREATE TABLE exchanges ("
        "id TEXT PRIMARY KEY, time DOUBLE PRECISION NOT NULL, api TEXT NOT NULL, "
        "model TEXT NOT NULL, build TEXT NOT NULL, key TEXT NOT NULL, subject TEXT NOT NULL, "
        "request TEXT NOT NULL, response TEXT NOT NULL, status INTEGER NOT NULL, "
        "error TEXT NOT NULL, prompt_tokens BIGINT NOT NULL, completion_tokens BIGINT NOT NULL, "
        "latency DOUBLE PRECISION NOT NULL, ttft DOUBLE PRECISION, "
        "cost DOUBLE PRECISION NOT NULL, tags TEXT NOT NULL)"
    )
    db.run("CREATE INDEX exchanges_time ON exchanges (time, id)")
    db.run("CREATE INDEX exchanges_subject ON exchanges (subject)")


def _salt(db: Database) -> None:
    """What the pseudonyms of subjects are made with, in hex."""
    db.run("CREATE TABLE salts (salt TEXT NOT NULL)")
    db.run("INSERT INTO salts VALUES (?)", (secrets.token_hex(32),))


def _stored(db: Database) -> None:
    """Since when an exchange is kept, which retention counts from: of an import not its `time`."""
    db.run("ALTER TABLE exchanges ADD COLUMN stored DOUBLE PRECISION NOT NULL DEFAULT 0")
    db.run("UPDATE exchanges SET stored = time")
    db.run("CREATE INDEX exchanges_stored ON exchanges (stored)")


def _feedback(db: Database) -> None:
    """What people said of exchanges; it goes with them."""
    db.run(
        "CREATE TABLE feedback ("
        "exchange TEXT NOT NULL, time DOUBLE PRECISION NOT NULL, source TEXT NOT NULL, "
        "key TEXT NOT NULL, rating TEXT NOT NULL, correction TEXT NOT NULL, "
        "comment TEXT NOT NULL, PRIMARY KEY (exchange, source))"
    )


MIGRATIONS = (_exchanges, _salt, _stored, _feedback)


def migrate(db: Database) -> None:
    """Run what `db` has not seen yet; call it within `db.alone()`.

    Raises `StorageError` when a newer residency has been here.
    """
    db.run("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY)")
    done = db.rows("SELECT COUNT(*) FROM migrations")[0][0]
    if done > len(MIGRATIONS):
        raise StorageError(
            f"{db.place}: its form is number {done}, and this residency knows {len(MIGRATIONS)}",
            hint="update residency",
        )
    for number, step in enumerate(MIGRATIONS[done:], done + 1):
        step(db)
        db.run("INSERT INTO migrations VALUES (?)", (number,))
