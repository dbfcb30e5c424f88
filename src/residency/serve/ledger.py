"""Monthly budgets that are never passed, not even by requests at once or after a kill.

Before a request goes out, the most that it can cost is added to what its account has used, in one
statement that fails past the limit; afterwards the difference to the real cost is given back. So
what a killed process had under way counts as spent in full. The month is UTC's.
"""

from __future__ import annotations

import math
import sqlite3
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from residency import store
from residency.serve.errors import RequestError

FILE_NAME = "ledger.sqlite"
UNITS = 10**9
"""Money is counted in whole billionths: sums of floats would drift past a limit."""
_NO_LIMIT = 2**62  # `inf` in the settings, in what SQLite's integers can hold
_BUSY_SECONDS = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS spending (
    account TEXT, month TEXT, used INTEGER NOT NULL, PRIMARY KEY (account, month)
) WITHOUT ROWID
"""
_RESERVE = """
INSERT INTO spending SELECT :account, :month, :amount WHERE :amount <= :limit
ON CONFLICT DO UPDATE SET used = used + :amount WHERE used + :amount <= :limit
"""


class OverBudget(RequestError):
    """It may cost more than what is left; a cheaper model may do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """`amount`, in billionths, that an account may spend; to be settled once."""

    account: str
    month: str
    amount: int


class Ledger:
    """The budgets in the database `path`, for one thread of each of several processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # SQLite does not wait for another process that turns the same new file to WAL.
        with self._errors(), store.locked(path.with_suffix(".lock")):
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            # FULL: on the disk before the request goes out, so that a power cut forgets nothing.
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(_SCHEMA)

    def reserve(self, account: str, amount: float, limit: float, now: float) -> Reservation:
        """Set `amount` aside, the most that a request can cost; `now` in seconds since 1970.

        Raises `RequestError` (429) when it would take the account past `limit` in this month, and
        `StorageError` when the ledger cannot be written: then nothing may be spent.
        """
        month, wanted = _month(now), math.ceil(amount * UNITS)
        values = {
            "account": account,
            "month": month,
            "amount": wanted,
            "limit": math.floor(min(limit * UNITS, _NO_LIMIT)),
        }
        with self._errors():
            done = self._db.execute(_RESERVE, values).rowcount
        if not done:
            raise OverBudget(
                f"the budget of {account} for {month} is {limit:g}, "
                f"{self.spent(account, now):g} is used, and this request may cost {amount:g}",
                status=429,
                code="insufficient_quota",
                headers={"x-should-retry": "false"},
            )
        return Reservation(account=account, month=month, amount=wanted)

    def settle(self, reservation: Reservation, actual: float) -> None:
        """Give back what the request did not cost."""
        back = reservation.amount - math.ceil(actual * UNITS)
        with self._errors():
            self._db.execute(
                "UPDATE spending SET used = used - ? WHERE account = ? AND month = ?",
                (back, reservation.account, reservation.month),
            )

    def spent(self, account: str, now: float) -> float:
        """What the account has used in this month, with what is reserved."""
        with self._errors():
            row = self._db.execute(
                "SELECT used FROM spending WHERE account = ? AND month = ?", (account, _month(now))
            ).fetchone()
        return row[0] / UNITS if row else 0.0

    def close(self) -> None:
        self._db.close()

    def _errors(self) -> AbstractContextManager[None]:
        return store.database_errors(self._path, "budgets")


def _month(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m")
