"""Requests and tokens a minute: token buckets, which hold a minute's worth and fill steadily.

Tokens are taken before a request at the most that it can cost (upper bound of the prompt, and
`max_tokens`), and settled with what it did cost. The headers are OpenAI's, as its guide "Rate
limits" describes them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Literal, NamedTuple

from residency.serve.asked import Caller
from residency.serve.errors import RequestError

Unit = Literal["requests", "tokens"]
WINDOW = 60.0
"""Seconds in which an empty bucket fills."""
MOST_CALLERS = 10_000


class Bucket(NamedTuple):
    """`level` of at most `limit` units at `time`; below 0 where more was used than was taken."""

    limit: int
    level: float
    time: float

    @classmethod
    def full(cls, limit: int, now: float) -> Bucket:
        return cls(limit=limit, level=limit, time=now)

    def at(self, now: float) -> Bucket:
        """The bucket at `now`, in seconds. A clock that was set back fills nothing, and filling
        goes on from the new time."""
        gained = max(0.0, now - self.time) * self.limit / WINDOW
        return Bucket(limit=self.limit, level=min(self.limit, self.level + gained), time=now)

    def wait(self, amount: float) -> float:
        """Seconds until the level is `amount`."""
        return max(0.0, amount - self.level) * WINDOW / self.limit


class Taken(NamedTuple):
    """The bucket after the attempt; when not `allowed`, seconds to `wait` (infinite where the
    amount is more than the bucket holds)."""

    state: Bucket
    allowed: bool
    wait: float


def take(state: Bucket, now: float, amount: float) -> Taken:
    """Take `amount` at `now`, all or nothing."""
    state = state.at(now)
    if amount > state.limit:
        return Taken(state, False, math.inf)
    if wait := state.wait(amount):
        return Taken(state, False, wait)
    return Taken(state._replace(level=state.level - amount), True, 0.0)


class Limits:
    """The buckets of all callers. Of more than `most` callers the one that asked least recently is
    forgotten, and so starts with full buckets."""

    def __init__(self, most: int = MOST_CALLERS) -> None:
        self._most = most
        self._buckets: OrderedDict[str, dict[Unit, Bucket]] = OrderedDict()

    def take(self, caller: Caller, tokens: int, now: float) -> None:
        """Count one request and its `tokens` at most; `now` in seconds, of any clock.

        Raises `RequestError` (429) past a limit, and then takes nothing.
        """
        wanted: dict[Unit, int] = {"requests": 1, "tokens": tokens}
        taken = {u: take(b, now, wanted[u]) for u, b in self._of(caller, now).items()}
        for unit, (bucket, allowed, wait) in taken.items():
            if not allowed:
                raise _refused(caller, unit, bucket.limit, wait, self.headers(caller, now))
        self._keep(caller, {unit: one.state for unit, one in taken.items()})

    def settle(self, caller: Caller, taken: int, used: int, now: float) -> None:
        """Put right what was `taken` for a request by the tokens that it has `used`."""
        buckets = self._of(caller, now)
        if bucket := buckets.get("tokens"):
            level = min(bucket.limit, bucket.level + taken - used)
            self._keep(caller, {**buckets, "tokens": bucket._replace(level=level)})

    def headers(self, caller: Caller, now: float) -> dict[str, str]:
        """OpenAI's headers for each limit that the caller has; `reset` is until it is full."""
        found = {}
        for unit, bucket in self._of(caller, now).items():
            found[f"x-ratelimit-limit-{unit}"] = str(bucket.limit)
            found[f"x-ratelimit-remaining-{unit}"] = str(max(0, math.floor(bucket.level)))
            found[f"x-ratelimit-reset-{unit}"] = duration(bucket.wait(bucket.limit))
        return found

    def _of(self, caller: Caller, now: float) -> dict[Unit, Bucket]:
        """The caller's buckets at `now`; one whose limit has changed is a new one."""
        limits: dict[Unit, int | None] = {"requests": caller.requests, "tokens": caller.tokens}
        kept = self._buckets.get(caller.name, {})
        found = {}
        for unit, limit in limits.items():
            if limit is not None:
                old = kept.get(unit)
                same = old is not None and old.limit == limit
                found[unit] = old.at(now) if old and same else Bucket.full(limit, now)
        return found

    def _keep(self, caller: Caller, buckets: dict[Unit, Bucket]) -> None:
        if buckets:
            self._buckets[caller.name] = buckets
            self._buckets.move_to_end(caller.name)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)


def duration(seconds: float) -> str:
    """As OpenAI writes it: `20ms`, `1.5s`, `6m0s`. Rounded up to the millisecond."""
    milliseconds = math.ceil(round(seconds * 1000, 6))
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    return (f"{minutes}m" if minutes else "") + f"{rest / 1000:g}s"


def _refused(
    caller: Caller, unit: Unit, limit: int, wait: float, headers: dict[str, str]
) -> RequestError:
    """A client is told not to try again what can never pass, as OpenAI's own clients understand."""
    if math.isinf(wait):
        when, more = "this request alone asks for more", {"x-should-retry": "false"}
    else:
        when, more = f"try again in {duration(wait)}", {"retry-after": str(math.ceil(wait))}
    return RequestError(
        f"rate limit of key {caller.name!r}: {limit} {unit} a minute; {when}",
        status=429,
        code="rate_limit_exceeded",
        headers={**headers, **more},
    )
