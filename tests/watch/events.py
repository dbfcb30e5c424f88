"""Finished requests for tests of the watch."""

from __future__ import annotations

from typing import Any

from residency.watch.finished import Finished


def event(**changed: Any) -> Finished:
    """A good answer of an engine of ours, after a tenth of a second."""
    known: dict[str, Any] = {
        "id": "req_1",
        "time": 1_800_000_000.0,
        "api": "chat",
        "model": "desk",
        "status": 200,
        "latency": 0.1,
        "ttft": 0.02,
        "prompt_tokens": 50,
        "completion_tokens": 9,
        "route": "local",
        "target": "desk",
        "build": "r1",
    }
    return Finished(**{**known, **changed})
