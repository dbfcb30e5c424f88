"""What is in a file of training data, found out without a base model and without a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from residency.config import DataSettings
from residency.data import describe
from residency.data.dedupe import compared, drop_repeated
from residency.data.formats import read
from residency.near_duplicates import group_near

_MOST = 20


def check(path: Path, settings: DataSettings) -> dict[str, Any]:
    """The file's form, its rows, and all that is wrong with them, the first 20 in words.

    Raises `DataError` only where the file as a whole cannot be read.
    """
    rows = read(path, settings.map)
    deduped = drop_repeated(rows.conversations)
    groups = group_near([compared(row) for row in deduped.rows], settings.near_duplicate)
    return {
        "form": rows.form,
        "rows": len(rows.conversations) + len(rows.problems),
        "wrong": len(rows.problems),
        "problems": [problem.message for problem in rows.problems[:_MOST]],
        "unused_keys": sorted(rows.unused),
        "duplicates": describe.dropped(deduped.duplicates),
        "contradictions": describe.dropped(deduped.contradictions),
        "differing": len(deduped.rows),
        "near_duplicate_groups": sum(len(group) > 1 for group in groups),
        "answers": describe.answers(deduped.rows),
    }
