"""The keys of the endpoint: made, listed, ended."""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from residency import audit, config
from residency.cli import Result
from residency.errors import InputError
from residency.serve.asked import Caller
from residency.serve.keys import FILE_NAME, Key, KeyRing
from residency.store import Store

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DAY = 86_400


def add(workspace: Path, name: str, models: tuple[str, ...], expires: str, **rights: Any) -> Result:
    """A new key, shown this once. `rights` are the other fields of `Caller`."""
    settings, now = config.load(workspace), time.time()
    _check(name, rights)
    caller = Caller(name=name, models=frozenset(models) if models else None, **rights)
    until = _until(expires, now) if expires else None
    token = _ring(workspace).add(caller, expires=until, now=now)
    # Before the key is shown: one that the log does not know is one that nobody can use.
    audit.append(workspace, "key added", audit.operator(), {"name": name, **_rights(caller, until)})
    note = "" if settings.serve.keys else "\nthe endpoint asks for keys once serve.keys is true"
    return Result(
        data={"name": name, "key": token},
        text=f"{token}\nkeep it: it is not shown again{note}",
    )


def revoke(workspace: Path, name: str) -> Result:
    """End a key; a running endpoint refuses it from the next request on."""
    config.load(workspace)
    _ring(workspace).revoke(name, time.time())
    audit.append(workspace, "key revoked", audit.operator(), {"name": name})
    return Result(data={"revoked": name}, text=f"{name} is refused from now on")


def list_keys(workspace: Path) -> Result:
    """All keys, oldest first."""
    config.load(workspace)
    rows = [_row(key, time.time()) for key in _ring(workspace).every()]
    lines = [
        "  ".join(
            [row["name"], row["id"], row["state"], *(f"{k}={v}" for k, v in row["rights"].items())]
        )
        for row in rows
    ]
    return Result(data={"keys": rows}, text="\n".join(lines) or "no keys yet")


def _ring(workspace: Path) -> KeyRing:
    return KeyRing(Store(workspace).root / FILE_NAME)


def _row(key: Key, now: float) -> dict[str, Any]:
    return {
        "name": key.caller.name,
        "id": key.id,
        "state": key.state(now),
        "created": _date(key.created),
        "rights": _rights(key.caller, key.expires),
    }


def _rights(caller: Caller, expires: float | None) -> dict[str, Any]:
    """What limits the key."""
    every = {
        "models": sorted(caller.models) if caller.models else None,
        "requests": caller.requests,
        "tokens": caller.tokens,
        "budget": caller.budget,
        "timeout": caller.timeout,
        "never_leave": caller.never_leave or None,
        "expires": _date(expires) if expires else None,
    }
    return {name: value for name, value in every.items() if value is not None}


def _check(name: str, rights: dict[str, Any]) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot name a key",
            hint="a letter or digit, then at most 63 of those, dots, dashes and underscores",
        )
    for right, value in rights.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"--{right}: {value} is not an amount")


def _until(text: str, now: float) -> float:
    """When a key ends: after `30d`, or as the day `2027-01-31` begins (UTC)."""
    try:
        if days := re.fullmatch(r"(\d{1,5})d", text):
            until = now + int(days[1]) * _DAY
        else:
            until = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise InputError(
            f"--expires: {text!r} is neither a day nor a number of days",
            hint="as in 2027-01-31 (UTC, as the day begins) or 30d",
        ) from None
    if until <= now:
        raise InputError(f"--expires: {text} is past")
    return until


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
