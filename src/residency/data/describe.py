"""What a report says of rows: which answers repeat, and what was dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from residency.types import Conversation

_MOST = 20  # lines or answers listed; the counts beside them are whole


def answers(rows: Sequence[Conversation]) -> dict[str, Any]:
    """How many answers differ, and the commonest with their rows where answers repeat."""
    counts = Counter(row.answer for row in rows)
    repeats = len(counts) <= len(rows) / 2
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST]
    return {"distinct": len(counts), "commonest": dict(common) if repeats else {}}


def dropped(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A count and the first few pairs of sources: the row dropped, the row that stands for it."""
    return {"count": len(pairs), "rows": [f"{lost} (see {kept})" for lost, kept in pairs[:_MOST]]}


def listed(sources: Sequence[str]) -> dict[str, Any]:
    """A count and the first few sources."""
    return {"count": len(sources), "rows": list(sources[:_MOST])}
