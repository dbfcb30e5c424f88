"""The keys of the endpoint: who holds one, and what it allows.

A key reads `res-ID-SECRET`. Of the secret only the SHA-256 is kept: it is 32 random bytes, which
nobody can guess from a digest, so a slow hash as for passwords would only cost time.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from residency import store
from residency.errors import InputError, StorageError
from residency.serve.asked import Caller
from residency.serve.errors import RequestError

FILE_NAME = "keys.json"
PREFIX = "res"
NO_DIGEST = "0" * 64
"""Compared with where no key has the ID; that a secret has this digest cannot be brought about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A key as it is kept. `sha256` is its secret's; times are in seconds since 1970."""

    id: str
    sha256: str
    caller: Caller
    created: float
    expires: float | None = None
    revoked: float | None = None

    def state(self, now: float) -> Literal["active", "expired", "revoked"]:
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "active"


@dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    format: Literal[1] = 1
    keys: tuple[Key, ...] = ()


_FILE = TypeAdapter(_File)


class KeyRing:
    """The keys in the file `path`, which is read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] = {}

    def verify(self, token: str, now: float) -> Caller:
        """Who holds `token`.

        Raises `RequestError` (401), in the same words for every token that is not a key; that a key
        has expired or was revoked is said only to one who has its secret. Every token costs one
        hash and one comparison in constant time. Raises `StorageError` when the file is damaged.
        """
        self._refresh()
        prefix, _, rest = token.partition("-")
        id_, _, secret = rest.partition("-")
        key = self._keys.get(id_) if prefix == PREFIX else None
        matches = hmac.compare_digest(_digest(secret), key.sha256 if key else NO_DIGEST)
        if key is None or not matches:
            raise _refused("a valid API key is needed: send it as Authorization: Bearer KEY")
        if (state := key.state(now)) != "active":
            raise _refused(f"the API key {key.caller.name!r} is {state}")
        return key.caller

    def add(self, caller: Caller, *, expires: float | None, now: float) -> str:
        """Make a key and return it; it cannot be read again.

        Raises `InputError` when an active key has the name.
        """
        token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        key = Key(id=token_id, sha256=_digest(secret), caller=caller, created=now, expires=expires)

        def added(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            if _active(keys, caller.name, now):
                raise InputError(
                    f"there is a key called {caller.name} already",
                    hint=f"take another name, or first: residency keys revoke {caller.name}",
                )
            return (*keys, key)

        self._change(added)
        return f"{PREFIX}-{token_id}-{secret}"

    def revoke(self, name: str, now: float) -> None:
        """End the active key called `name`; a running gateway refuses it from the next request on.

        Raises `InputError` when there is none.
        """

        def revoked(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            if not (doomed := _active(keys, name, now)):
                known = ", ".join(k.caller.name for k in keys if k.state(now) == "active")
                raise InputError(f"no active key is called {name}", hint=f"active: {known or '-'}")
            return tuple(replace(k, revoked=now) if k == doomed else k for k in keys)

        self._change(revoked)

    def every(self) -> list[Key]:
        """All keys, oldest first, with those that are no longer active."""
        self._refresh()
        return list(self._keys.values())

    def _change(self, change: Callable[[tuple[Key, ...]], tuple[Key, ...]]) -> None:
        """A lock of its own: the store's is held for hours while a stage is at work."""
        with store.locked(self.path.with_suffix(".lock")):
            keys = _File(keys=change(tuple(self.every())))
            store.write_atomic(self.path, _FILE.dump_json(keys, indent=1).decode(), mode=0o600)

    def _refresh(self) -> None:
        """Read the file if it is not the one that was read last: one `stat` a request."""
        try:
            if _signature(self.path.stat()) == self._seen:
                return
            with self.path.open("rb") as file:
                seen, text = _signature(os.fstat(file.fileno())), file.read()
            self._keys = {key.id: key for key in _FILE.validate_json(text, extra="forbid").keys}
            self._seen = seen
        except FileNotFoundError:
            self._keys, self._seen = {}, None
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be read: {error.strerror}") from error
        except ValidationError as error:
            # The parser's own words would quote the file.
            where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "JSON"
            raise StorageError(
                f"{self.path}: damaged (at {where})",
                hint="put a backup in its place, or delete it and make the keys anew",
            ) from None


def _active(keys: tuple[Key, ...], name: str, now: float) -> Key | None:
    return next((k for k in keys if k.caller.name == name and k.state(now) == "active"), None)


def _signature(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_size, status.st_ino


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def _refused(message: str) -> RequestError:
    return RequestError(
        message, status=401, code="invalid_api_key", headers={"www-authenticate": "Bearer"}
    )
