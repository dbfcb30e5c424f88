"""The exchanges of a workspace, in `WORKSPACE/.residency/traffic.db`: an SQLite database.

A batch that was added survives a kill of the process; a power cut may take the last ones, because
the disk is not waited for.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import Any

from residency import store
from residency.errors import InputError, StorageError
from residency.traffic.mask import pseudonym
from residency.traffic.migrations import migrate
from residency.types import Exchange, to_dict

FILE_NAME = "traffic.db"
_BUSY_SECONDS = 2.0
_PAGE = 500
_COLUMNS = tuple(field.name for field in fields(Exchange))
_JSON = {"request", "response", "tags"}
_dumps = json.JSONEncoder(ensure_ascii=False, default=to_dict).encode
_INSERT = (
    f"INSERT INTO exchanges ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    "ON CONFLICT (id) DO NOTHING"
)
_BETWEEN = (
    f"SELECT {', '.join(_COLUMNS)} FROM exchanges "
    f"WHERE (time, id) > (?, ?) AND time < ? ORDER BY time, id LIMIT {_PAGE}"
)


class TrafficStore:
    """The database `path`, for one thread at a time; several processes may have it open.

    Every method raises `StorageError` when it is locked for too long, full or damaged. `salt` is
    what `mask` makes pseudonyms of subjects with.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # SQLite does not wait for another process that turns the same new file to WAL.
        with self._errors(), store.locked(path.with_suffix(".lock")):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA secure_delete = ON")
            with self._transaction():
                migrate(self._db, path)
            self.salt = bytes.fromhex(self._db.execute("SELECT salt FROM salts").fetchone()[0])

    def add(self, exchanges: Iterable[Exchange]) -> None:
        """Keep all of them or, when it raises, none; one whose `id` is here already is left out."""
        with self._errors(), self._transaction():
            self._db.executemany(_INSERT, map(_row, exchanges))

    def count(self) -> int:
        with self._errors():
            return int(self._db.execute("SELECT COUNT(*) FROM exchanges").fetchone()[0])

    def between(self, start: float, end: float) -> Iterator[Exchange]:
        """Exchanges from `start` on and before `end`, in seconds since 1970, oldest first.

        Read page by page: a reader that takes its time holds up no writer and no erasure.
        """
        last: tuple[float, str] = (start, "")
        while True:
            with self._errors():
                rows = self._db.execute(_BETWEEN, (*last, end)).fetchall()
            yield from map(_exchange, rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1][_COLUMNS.index("time")], rows[-1][0]

    def erase(self, subject: str) -> int:
        """Remove what is about `subject`, also under its pseudonym, and return how many there were.

        Their bytes are then in none of the database's files: the whole is written anew, because
        SQLite leaves copies of moved rows between others. Where this fails half-way, ask again.
        """
        if not subject:
            raise InputError("no subject: that would be every exchange without one")
        who = (_storable(subject), pseudonym(subject, self.salt))
        with self._errors():
            gone = self._db.execute("DELETE FROM exchanges WHERE subject IN (?, ?)", who).rowcount
            self._db.execute("VACUUM")
            self._empty_log()
        return gone

    def expire(self, before: float) -> int:
        """Remove what is older than `before`, in seconds since 1970; returns how many there were.

        Their places are overwritten, and used again.
        """
        with self._errors():
            gone = self._db.execute("DELETE FROM exchanges WHERE time < ?", (before,)).rowcount
            if gone:
                self._empty_log()
        return gone

    def close(self) -> None:
        self._db.close()

    def _empty_log(self) -> None:
        """Bring the write-ahead log into the database and cut it to nothing."""
        if self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise StorageError(
                f"{self._path}: another process is reading, and what was removed is in the log yet",
                hint="ask again when it is done",
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _errors(self) -> AbstractContextManager[None]:
        return store.database_errors(self._path, "exchanges")


def _row(exchange: Exchange) -> list[Any]:
    return [_cell(name, getattr(exchange, name)) for name in _COLUMNS]


def _cell(name: str, value: Any) -> Any:
    if name in _JSON:
        value = _dumps(value)
    return _storable(value) if isinstance(value, str) else value


def _storable(text: str) -> str:
    """Lone surrogates, which are no Unicode text, as their JSON escapes."""
    return text.encode(errors="backslashreplace").decode()


def _exchange(row: tuple[Any, ...]) -> Exchange:
    values = zip(_COLUMNS, row, strict=True)
    return Exchange(**{k: json.loads(v) if k in _JSON else v for k, v in values})
