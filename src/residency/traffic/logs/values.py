"""Values from a log, where anything may be anything: each reader says what it made of one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic_core import from_json

_NUMERIC = int, float, str  # a union takes thrice the time to look at
_MOST = 2**53  # beyond it a double counts no longer
_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


class Bad(ValueError):
    """Why a record cannot be used, in a few words that quote nothing of it."""


def decoded(raw: bytes) -> Any:
    """The JSON value in `raw`. Half of a surrogate pair, which a cut leaves and which is no text,
    becomes U+FFFD. Raises `ValueError`, also for what is nested more than 200 deep."""
    try:
        return from_json(raw)
    except ValueError:
        whole = _HALF.sub(rb"\\ufffd", raw)
        if whole == raw:
            raise
        return from_json(whole)


def opened(value: Any) -> Any:
    """`value`, or what it holds where it is JSON in a string, as in the cells of a table."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        return decoded(value.encode())
    except ValueError:
        return value


def mapping(value: Any) -> Mapping[str, Any]:
    """An object, empty for anything else."""
    if isinstance(value, str):
        value = opened(value)
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list, none for anything else."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def first(record: Mapping[str, Any], *names: str) -> Any:
    """The first of the fields that holds something."""
    for name in names:
        if name in record and (value := record[name]) is not None and value != "":
            return value
    return None


def text(value: Any) -> str:
    """A name or a code; empty for what is none."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def number(value: Any) -> float | None:
    """A finite number, also from its digits in a string."""
    if not isinstance(value, _NUMERIC) or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def amount(value: Any) -> float:
    """A number from 0 on; 0 for anything else."""
    return max(number(value) or 0.0, 0.0) if value else 0.0


def count(value: Any) -> int:
    """A whole number from 0 on; 0 for anything else."""
    return int(min(amount(value), _MOST)) if value else 0


def seconds(value: Any) -> float | None:
    """A time in seconds since 1970, from a number in s, ms, us or ns, told apart by their size (in
    seconds 1e11 is the year 5138, in ms it is 1973), or from ISO 8601, where no zone is UTC."""
    if (found := number(value)) is not None:
        for limit, unit in ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9)):
            if 0 < found < limit:
                return found / unit
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
