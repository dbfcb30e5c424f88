"""The exchanges of a workspace: in `WORKSPACE/.residency/traffic.db`, an SQLite database, or on
PostgreSQL.

A batch that was added survives a kill of the process; in SQLite a power cut may take the last ones,
because the disk is not waited for.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from residency.config import TrafficSettings
from residency.errors import InputError
from residency.store import Store
from residency.traffic import database, feedback
from residency.traffic.feedback import Feedback
from residency.traffic.mask import pseudonym
from residency.traffic.migrations import migrate
from residency.types import Exchange, to_dict

FILE_NAME = "traffic.db"
_PAGE = 500
_COLUMNS = tuple(field.name for field in fields(Exchange))
_JSON = {"request", "response", "tags"}
_dumps = json.JSONEncoder(ensure_ascii=False, default=to_dict).encode
_INSERT = (
    f"INSERT INTO exchanges ({', '.join(_COLUMNS)}, stored) "
    f"VALUES ({'?, ' * len(_COLUMNS)}?) ON CONFLICT (id) DO NOTHING"
)
_BETWEEN = (
    f"SELECT {', '.join(_COLUMNS)} FROM exchanges "
    f"WHERE (time, id) > (?, ?) AND time < ? ORDER BY time, id LIMIT {_PAGE}"
)


def place(root: Path, settings: TrafficSettings) -> Path | str:
    """Where the store is that the settings ask for; `root` is the workspace's `.residency`."""
    return settings.store or root / FILE_NAME


def opened(workspace: Path, settings: TrafficSettings) -> contextlib.closing[TrafficStore]:
    """The store of a workspace, for a `with` that closes it at its end."""
    return contextlib.closing(TrafficStore(place(Store(workspace).root, settings)))


class TrafficStore:
    """The database `where`, a file or a `postgresql://` address, for one thread at a time; several
    processes may have it open.

    Every method raises `StorageError` when it is locked for too long, full, damaged or away. `salt`
    is what `mask` makes pseudonyms of subjects with.
    """

    def __init__(self, where: Path | str) -> None:
        self._db = database.connect(where)
        with self._db.alone():
            migrate(self._db)
        self.salt = bytes.fromhex(self._db.rows("SELECT salt FROM salts")[0][0])

    def add(self, exchanges: Iterable[Exchange]) -> int:
        """Keep all of them or, when it raises, none; one whose `id` is here already is left out.

        Returns how many are new.
        """
        return self.add_rows(map(row, exchanges))

    def add_rows(self, rows: Iterable[Sequence[Any]]) -> int:
        """The same with what `row` made of them, in another process maybe."""
        return self._db.insert(_INSERT, rows)

    def count(self) -> int:
        return int(self._db.rows("SELECT COUNT(*) FROM exchanges")[0][0])

    def between(self, start: float, end: float) -> Iterator[Exchange]:
        """Exchanges from `start` on and before `end`, in seconds since 1970, oldest first.

        Read page by page: a reader that takes its time holds up no writer and no erasure.
        """
        last: tuple[float, str] = (float(start), "")
        while True:
            rows = self._db.rows(_BETWEEN, (*last, float(end)))
            yield from map(_exchange, rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1][_COLUMNS.index("time")], rows[-1][0]

    def find(self, id: str) -> Exchange | None:
        """The exchange with this `id`, None where it is not kept (any more)."""
        rows = self._db.rows(f"SELECT {', '.join(_COLUMNS)} FROM exchanges WHERE id = ?", (id,))
        return _exchange(rows[0]) if rows else None

    def rate(self, opinions: Iterable[Feedback]) -> int:
        """Keep what was said of exchanges that are here, each in the place of an earlier one of its
        source; all of them or, when it raises, none. Returns how many."""
        return self._db.insert(
            feedback.KEEP,
            [
                [_storable(one) if isinstance(one, str) else one for one in feedback.cells(opinion)]
                for opinion in opinions
            ],
        )

    def feedback(self) -> list[Feedback]:
        """All that people said of the exchanges that are kept, oldest first."""
        rows = self._db.rows(feedback.READ)
        return [Feedback(**dict(zip(feedback.COLUMNS, row, strict=True))) for row in rows]

    def about(self, subject: str) -> list[str]:
        """The ids of the exchanges that `erase` would remove."""
        rows = self._db.rows(
            "SELECT id FROM exchanges WHERE subject IN (?, ?) ORDER BY id", self._who(subject)
        )
        return [row[0] for row in rows]

    def erase(self, subject: str) -> int:
        """Remove what is about `subject`, also under its pseudonym, with what was said of it, and
        return how many exchanges there were.

        Their bytes are then in none of the table's files, which are written anew. PostgreSQL keeps
        them in its write-ahead log until that is used again, and in backups and replicas. Where
        this fails half-way, ask again.
        """
        gone = self._remove("subject IN (?, ?)", self._who(subject))
        self._db.rewrite("exchanges, feedback")
        return gone

    def _who(self, subject: str) -> tuple[str, str]:
        if not subject:
            raise InputError("no subject: that would be every exchange without one")
        return _storable(subject), pseudonym(subject, self.salt)

    def expire(self, before: float) -> int:
        """Remove what is kept since before `before`, in seconds since 1970: a call of the gateway
        since its own time, an import since it was imported. Returns how many there were.

        Their places are used again; in SQLite they are overwritten first.
        """
        gone = self._remove("stored < ?", (float(before),))
        if gone:
            self._db.reuse("exchanges, feedback")
        return gone

    def _remove(self, which: str, values: Sequence[Any]) -> int:
        """Delete exchanges and what was said of them, both or neither."""
        with self._db.alone():
            self._db.run(
                f"DELETE FROM feedback WHERE exchange IN (SELECT id FROM exchanges WHERE {which})",
                values,
            )
            return self._db.run(f"DELETE FROM exchanges WHERE {which}", values)

    def close(self) -> None:
        self._db.close()


def row(exchange: Exchange, stored: float | None = None) -> list[Any]:
    """The cells of an exchange, as the table has them; kept since `stored`, in seconds since 1970,
    which is its own time where nothing else is said."""
    cells = [_cell(name, getattr(exchange, name)) for name in _COLUMNS]
    return [*cells, exchange.time if stored is None else stored]


def _cell(name: str, value: Any) -> Any:
    if name in _JSON:
        value = _dumps(value)
    return _storable(value) if isinstance(value, str) else value


def _storable(text: str) -> str:
    """Lone surrogates, which are no Unicode text, and the NUL that PostgreSQL does not take, as
    escapes."""
    if not text.isascii():
        text = text.encode(errors="backslashreplace").decode()
    return text.replace("\0", "\\x00")


def _exchange(cells: tuple[Any, ...]) -> Exchange:
    values = zip(_COLUMNS, cells, strict=True)
    return Exchange(**{k: json.loads(v) if k in _JSON else v for k, v in values})
