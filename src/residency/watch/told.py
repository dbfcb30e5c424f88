"""The last finding of drift, left by `residency watch report` for the running gateway's alerts.

Finding it takes an encoder, which a gateway has no room for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from residency.store import write_atomic
from residency.types import to_json
from residency.watch.rules import Drift

FILE_NAME = "drift.json"


def keep(root: Path, found: Sequence[Drift]) -> None:
    """Leave what was `found` in the place of the last; `root` is the workspace's `.residency`.
    Raises `StorageError`."""
    write_atomic(root / FILE_NAME, to_json(list(found), indent=1) + "\n", mode=0o600)


def last(root: Path) -> tuple[Drift, ...]:
    """What was left last; nothing where there is none, or where it is damaged: it is found anew."""
    try:
        values = json.loads((root / FILE_NAME).read_text(encoding="utf-8"))
        return tuple(Drift(**one) for one in values)
    except (OSError, ValueError, TypeError):
        return ()
