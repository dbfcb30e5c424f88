"""Base models."""

from __future__ import annotations

from pathlib import Path

from residency.cli import Result
from residency.types import to_dict


def pull(workspace: Path, model: str) -> Result:
    """Fetch a base model into the cache, checked; nothing is fetched twice."""
    from residency.models.base import resolve

    base = resolve(model, workspace)
    return Result(
        data=to_dict(base),
        text=f"{base.name}: {base.path}\ndigest {base.digest}\n"
        f"licence {base.license}, from {base.source}",
    )
