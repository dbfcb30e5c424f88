"""Builds: the names of the two that are always made, and what stands beside a model file."""

from __future__ import annotations

import json
from pathlib import Path

from residency.errors import StorageError
from residency.types import Build

BASE = "base-f16"
"""The base model, which the gate compares with."""
F16 = "f16"
"""The specialist at full precision."""
MODEL_FILE = "model.gguf"


def read_build(folder: Path) -> Build:
    """The `build.json` of a build's folder. Raises `StorageError` where it is damaged."""
    path = folder / "build.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: tuple(values[name]) for name in ("stop_tokens", "notes")}
        return Build(**{**values, **lists})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path}: damaged ({error})", hint="run: residency run") from error
