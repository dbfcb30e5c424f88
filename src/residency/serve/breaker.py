"""A circuit breaker: a model that keeps failing is left alone for a while, then tried once.

M. Nygard, Release It!, 2nd ed. (2018), "Circuit Breaker". Closed, all pass. After `FAILURES` in a
row within `WINDOW` it is open and none pass. Open for `REST`, it is half open: one passes, whose
success closes it and whose failure opens it anew.
"""

from __future__ import annotations

from dataclasses import dataclass

FAILURES = 5
WINDOW = 30.0
"""Seconds within which the failures count."""
REST = 10.0
"""Seconds for which an open breaker lets nothing pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Breaker:
    """Of one model. `failures` are the times since the last success, `rests` the time since which
    it has been open. Times are in seconds of a monotonic clock."""

    failures: tuple[float, ...] = ()
    rests: float | None = None

    def permits(self, now: float) -> bool:
        return self.rests is None or now - self.rests >= REST

    def asked(self, now: float) -> Breaker:
        """A permitted request goes out. As a probe it has a rest's time to itself: should it end
        without a word, because its client left, the next one passes after that."""
        return self if self.rests is None else Breaker(rests=now)

    def succeeded(self) -> Breaker:
        return Breaker()

    def failed(self, now: float) -> Breaker:
        """The model failed or was late; a refusal that is the client's fault does not count."""
        if self.rests is not None:
            return Breaker(rests=now)
        recent = (*(time for time in self.failures if now - time < WINDOW), now)
        return Breaker(rests=now) if len(recent) >= FAILURES else Breaker(failures=recent)
