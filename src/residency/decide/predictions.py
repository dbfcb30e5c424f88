"""The record of each decision, kept to be compared with what happens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from residency.decide.decision import Decision
from residency.decide.facts import Facts
from residency.errors import InputError
from residency.store import read_as, write_atomic
from residency.types import to_json

LATEST, FOLDER = "decision.json", "decisions"


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A decision and all that it rests on; `created` is from `stamp`."""

    created: str
    facts: Facts
    decision: Decision


def stamp(time: datetime) -> str:
    """UTC to the millisecond, as ISO 8601."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def keep(reports: Path, kept: Kept) -> Path:
    """Write it beside all that were made before and, once more, as the latest; returns where that
    is. Raises `StorageError`."""
    text = to_json(kept, indent=1) + "\n"
    write_atomic(reports / FOLDER / f"{_stem(kept.created)}.json", text)
    write_atomic(reports / LATEST, text)
    return reports / LATEST


def last_before(reports: Path, time: float) -> Kept:
    """The last decision that was made before `time`, in seconds since 1970.

    Raises `InputError` where there is none, and `StorageError`.
    """
    paths = sorted((reports / FOLDER).glob("*.json"))
    if not paths:
        raise InputError("there is no decision to compare", hint="make one with: residency decide")
    first = datetime.fromtimestamp(time, UTC)
    before = [path for path in paths if path.stem <= _stem(stamp(first))]
    if not before:
        day = datetime.fromisoformat(paths[-1].stem[:10]) + timedelta(days=1)
        raise InputError(
            f"the traffic report begins on {first:%Y-%m-%d}, before there was a decision",
            hint=f"report on the calls since: residency traffic report --since {day:%Y-%m-%d}",
        )
    hint = "move it out of the folder, and the decision before it is compared"
    return read_as(Kept, before[-1], "or of another version", hint=hint)


def _stem(created: str) -> str:
    return created.replace(":", "")
