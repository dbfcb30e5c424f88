"""SQLite and PostgreSQL behind the few operations that the traffic store needs.

SQL is written once, with `?` where a value goes, in what both of them understand.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from residency import sealed, store
from residency.errors import MissingError, SealedError, SettingsError, StorageError

if TYPE_CHECKING:
    import psycopg

_BUSY_SECONDS = 2
_LOCK = 0x7265_7369  # ours among PostgreSQL's advisory locks
Row = tuple[Any, ...]


class Database(Protocol):
    """One connection, for one thread at a time. Every method raises `StorageError`.

    `place` names it in messages, without a password.
    """

    place: str

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """What a query finds."""

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """How many rows a statement changed."""

    def insert(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        """Run an INSERT for all rows or, when it raises, for none; returns how many are new."""

    def alone(self) -> AbstractContextManager[None]:
        """A transaction that no other process is in at the same time."""

    def rewrite(self, tables: str) -> None:
        """Have none of the files of `tables` (names with commas between) hold what was deleted."""

    def reuse(self, tables: str) -> None:
        """Have the places of what was deleted used again."""

    def close(self) -> None: ...


def connect(where: Path | str) -> Database:
    """The SQLite file `where`, made if need be, or the database of a `postgresql://` address."""
    return SQLite(where) if isinstance(where, Path) else PostgreSQL(where)


class SQLite:
    """A file for its owner only, with a write-ahead log; deleted bytes are overwritten."""

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._path = path
        # SQLite does not wait for another process that turns the same new file to WAL.
        with self._errors(), store.locked(path.with_suffix(".lock")):
            # Only where it is new: a process that closes any descriptor of a file loses all its
            # locks on it, those of another connection too (sqlite.org/howtocorrupt.html, 2.2).
            if not path.exists():
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA secure_delete = ON")
            self._db.execute("PRAGMA cache_size = -64000")  # kB
            # 40 MB: ids in no order touch many pages, and each checkpoint waits for the disk. A
            # tenth of this, the default, halves the rate of an import.
            self._db.execute("PRAGMA wal_autocheckpoint = 10000")

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        with self._errors():
            return self._db.execute(sql, values).fetchall()

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        with self._errors():
            return self._db.execute(sql, values).rowcount

    def insert(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        with self.alone():
            return self._db.executemany(sql, rows).rowcount

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def rewrite(self, tables: str) -> None:
        """Writes the whole file anew: SQLite leaves copies of moved rows between others."""
        self.run("VACUUM")
        self.reuse(tables)

    def reuse(self, tables: str) -> None:
        """Brings the write-ahead log into the database and cuts it to nothing."""
        if self.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]:
            raise StorageError(
                f"{self.place}: another process is reading, and what was removed is in the log yet",
                hint="ask again when it is done",
            )

    def close(self) -> None:
        self._db.close()

    def _errors(self) -> AbstractContextManager[None]:
        return store.database_errors(self._path, "exchanges")


class PostgreSQL:
    """A PostgreSQL database, by libpq's rules: what the address leaves out comes from `PGPASSWORD`
    and the like. A connection that was lost is made again when it is next needed."""

    def __init__(self, address: str) -> None:
        known = _parsed(address)
        self.place = f"postgresql://{known.get('host') or ''}/{known.get('dbname') or ''}"
        if os.environ.get(sealed.VARIABLE) == "1" and (beyond := _beyond(known)):
            raise SealedError(
                f"sealed: traffic.store is on {', '.join(beyond)}",
                hint="sealed = true in residency.toml forbids it: use a server on this machine",
            )
        self._address = address
        self._db: psycopg.Connection | None = None
        with self._connection():
            pass

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        with self._connection() as db:
            return db.execute(_query(sql), values).fetchall()

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        with self._connection() as db:
            return db.execute(_query(sql), values).rowcount

    def insert(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        with self._connection() as db, db.transaction(), db.cursor() as cursor:
            cursor.executemany(_query(sql), rows)
            return cursor.rowcount

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with self._connection() as db, db.transaction():
            db.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            yield

    def rewrite(self, tables: str) -> None:
        """Not out of PostgreSQL's write-ahead log, its backups and replicas: docs/guides."""
        self.run(f"VACUUM (FULL) {tables}")

    def reuse(self, tables: str) -> None:
        self.run(f"VACUUM {tables}")

    def close(self) -> None:
        if self._db:
            self._db.close()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[psycopg.Connection]:
        import psycopg

        try:
            if self._db is None or self._db.closed:
                # A server that went away without a word is given up on after these seconds.
                self._db = psycopg.connect(
                    self._address, autocommit=True, connect_timeout=5, tcp_user_timeout=10_000
                )
                self._db.execute(f"SET lock_timeout = '{_BUSY_SECONDS}s'".encode())
            yield self._db
        except psycopg.Error as error:
            # Not the detail, which quotes the row.
            said = error.diag.message_primary or str(error).partition("\n")[0]
            raise StorageError(
                f"{self.place}: the exchanges cannot be read or written: {said}",
                hint="see that the server runs, lets this user in and has room, and that no other "
                "program holds the table",
            ) from error


def _query(sql: str) -> bytes:
    return sql.replace("?", "%s").encode()


def _parsed(address: str) -> dict[str, Any]:
    """The parts of `address`, and the environment's where it says nothing."""
    try:
        import psycopg
        from psycopg import conninfo, pq
    except ImportError:
        raise MissingError(
            "traffic.store: the client of PostgreSQL is not installed",
            hint="install it with: pip install 'residency[postgres]'",
        ) from None
    usual = {o.keyword.decode(): o.val.decode() for o in pq.Conninfo.get_defaults() if o.val}
    try:
        return usual | conninfo.conninfo_to_dict(address)
    except psycopg.Error:
        # What libpq says of it may quote the password.
        raise SettingsError(
            "traffic.store: not an address of a PostgreSQL database",
            hint="write postgresql://USER@HOST:PORT/DATABASE",
        ) from None


def _beyond(known: Mapping[str, Any]) -> list[str]:
    """The hosts that are not this machine; a path is a socket of it. A service may be anywhere."""
    hosts = [host for key in ("host", "hostaddr") for host in str(known.get(key, "")).split(",")]
    far = [h for h in hosts if h and not h.startswith(("/", "@")) and not sealed.is_local(h)]
    return far + [str(known[key]) for key in ("service",) if known.get(key)]
