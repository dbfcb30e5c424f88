"""Who did what to keys, releases and data: a log whose every line is bound to the one before.

    WORKSPACE/.residency/
      audit.jsonl     one act a line; `previous` is the SHA-256 of the line before
      audit.head      the SHA-256 of the last line

What `read` finds out: a line that was changed, removed or put in, and an end that was cut off. What
it cannot: someone who may write here and makes the whole log and its head anew, or who deletes
both, or who adds a false act at the end. Against the first two, keep the head elsewhere
(`residency audit` prints it).
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from residency import store
from residency.errors import StorageError
from residency.types import to_json

Act = Literal[
    "key added",
    "key revoked",
    "release promoted",
    "release rolled back",
    "gc",
    "traffic erased",
    "traffic imported",
    "endpoint exposed",
]
GENESIS = "0" * 64
"""What stands for the line before the first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One act. `time` is UTC, ISO 8601; `digest` is the SHA-256 of its line."""

    time: str
    act: str
    actor: str
    details: dict[str, Any]
    previous: str
    digest: str


def operator() -> str:
    """The user whose process this is, by name: the actor of what is done on the command line."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def append(workspace: Path, act: Act, actor: str, details: dict[str, Any]) -> None:
    """Put an act at the end of the log; it is on the disk when this returns.

    A log that was cut off is written on, so that no act is prevented, but in a way that `read`
    still sees where. Raises `StorageError` when it cannot be written.
    """
    path, head = _files(workspace)
    with store.locked(path.with_suffix(".lock")), store.storage_errors(path):
        entry = {
            "time": store.now(),
            "act": act,
            "actor": actor,
            "details": details,
            "previous": _previous(path, head),
        }
        # A lone surrogate (an argument that is not UTF-8) becomes its JSON escape.
        line = to_json(entry).encode(errors="backslashreplace")
        with path.open("ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        store.write_atomic(head, _digest(line) + "\n")


def _previous(path: Path, head: Path) -> str:
    """What the next line is bound to. Drops a line that a full disk or a power cut left half
    written: no act counted on it.

    The head may be one line behind, because a process can die between the two writes. Any other
    head means that lines are missing: bound to the head, the next line shows it for good.
    """
    lines, half = _lines(path)
    if half:
        os.truncate(path, path.stat().st_size - len(half))
    known = _head(head)
    last = _digest(lines[-1]) if lines else GENESIS
    return last if known in (last, _bound_to(lines)) else known


def read(workspace: Path) -> list[Entry]:
    """All acts, oldest first. Raises `StorageError` naming the line where the chain breaks."""
    path, head = _files(workspace)
    lines, _ = _lines(path)
    entries: list[Entry] = []
    for number, line in enumerate(lines, 1):
        entry = _entry(line, f"{path}:{number}")
        if entry.previous != (entries[-1].digest if entries else GENESIS):
            raise _broken(f"{path}:{number}", "the line before it is not the one it was bound to")
        entries.append(entry)
    last = entries[-1].digest if entries else GENESIS
    if _head(head) not in (last, _bound_to(lines)):
        raise _broken(f"{path}:{len(lines)}", f"the end is missing, or {head.name} was changed")
    return entries


def _entry(line: bytes, place: str) -> Entry:
    try:
        return Entry(**json.loads(line), digest=_digest(line))
    except (ValueError, TypeError) as error:
        raise _broken(place, f"not an entry of the log ({error})") from None


def _broken(place: str, why: str) -> StorageError:
    return StorageError(
        f"{place}: the audit log was tampered with or damaged: {why}",
        hint="keep both files as they are, and compare them with a backup",
    )


def _files(workspace: Path) -> tuple[Path, Path]:
    root = workspace / ".residency"
    return root / "audit.jsonl", root / "audit.head"


def _lines(path: Path) -> tuple[list[bytes], bytes]:
    """The finished lines, and what stands after the last line break."""
    *lines, half = path.read_bytes().split(b"\n") if path.exists() else [b""]
    return lines, half


def _head(path: Path) -> str:
    return path.read_bytes().decode(errors="replace").strip() if path.exists() else GENESIS


def _bound_to(lines: list[bytes]) -> str:
    """The head before the last line was written."""
    return _digest(lines[-2]) if len(lines) > 1 else GENESIS


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
