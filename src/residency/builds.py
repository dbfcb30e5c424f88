"""What stands beside a build's model file: its description."""

from __future__ import annotations

import json
from pathlib import Path

from residency.errors import StorageError
from residency.types import Build


def read_build(folder: Path) -> Build:
    """The `build.json` of a build's folder. Raises `StorageError` where it is damaged."""
    path = folder / "build.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: tuple(values[name]) for name in ("stop_tokens", "notes")}
        return Build(**{**values, **lists})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path}: damaged ({error})", hint="run: residency run") from error
