"""What happened to one request on its way: for its headers, its `residency` object, its record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Notes:
    """The one mutable companion of a frozen request; each step writes only its own field.

    `context` is the receipt of what was dropped or summarised; `guards` are the events of the
    guards, in order; `routes` are the models tried, the last of which answered; `finish` says how
    the answer ended where OpenAI's `finish_reason` has no word for it (such as "deadline");
    `determinism` is what was guaranteed; `usage` is "estimated" where the engine was left before
    it had counted; `queued` is the wait for a turn, in seconds; `first` is when the first token
    came from an engine, by the monotonic clock.
    """

    context: dict[str, Any] | None = None
    guards: list[str] = field(default_factory=list)
    routes: list[str] = field(default_factory=list)
    finish: str = ""
    determinism: str = ""
    usage: str = ""
    queued: float = 0.0
    first: float | None = None

    def facts(self) -> dict[str, Any]:
        """The fields that have something to say."""
        told = ("context", "guards", "routes", "finish", "determinism", "usage")
        return {name: value for name in told if (value := getattr(self, name))}
