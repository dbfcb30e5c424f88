"""The record of what was asked and answered."""

from __future__ import annotations

from pathlib import Path

from residency import audit, config
from residency.cli import Result
from residency.store import Store
from residency.traffic.mask import pseudonym
from residency.traffic.store import FILE_NAME, TrafficStore


def erase(workspace: Path, subject: str) -> Result:
    """Remove every exchange about a person, for good. The audit log has their pseudonym only."""
    config.load(workspace)
    store = TrafficStore(Store(workspace).root / FILE_NAME)
    try:
        count = store.erase(subject)
    finally:
        store.close()
    details = {"subject": pseudonym(subject, store.salt), "exchanges": count}
    audit.append(workspace, "traffic erased", audit.operator(), details)
    noun = "exchange" if count == 1 else "exchanges"
    return Result(data={"erased": count}, text=f"{count} {noun} erased")
