"""What happened in the last minute, five minutes, hour and day, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from residency.watch.finished import Finished
from residency.watch.sketch import Sketch

OTHER = "other"
"""Stands for every name past a bound: unknown models, and codes beyond the most that are kept."""
MODELS = 64
CODES = 64
PERCENTILES = {0.5: "p50", 0.95: "p95", 0.99: "p99"}
SLICES = 12
"""A window is so many slices that are over, and the one that is not: up to a twelfth longer than
its name says."""
SIZES = {"1m": 5.0, "5m": 25.0, "1h": 300.0, "24h": 7200.0}
"""Seconds of a slice. Each divides the next, so that slices add up to those of the next window."""
PIECE = "1h"
"""The window whose slices, five minutes each, are what a model's usual speed is taken from."""
PIECES = 288
"""Of a day."""
PIECE_REQUESTS = 20
"""A piece with fewer requests says nothing of a percentile."""


class Piece(NamedTuple):
    """Five minutes of one model: seconds for 95 of 100 answers, and for each token (the median;
    None where no answer had two), and the tokens of all answers."""

    p95: float
    per_token: float | None
    tokens: int


class Tally:
    """What some requests add up to. `local` counts the answers of engines of ours; `saved` is the
    money that these would have cost at the API; see `Finished` for the rest."""

    def __init__(self) -> None:
        self.requests = self.answered = self.failed = self.local = 0
        self.prompt_tokens = self.completion_tokens = 0
        self.cost = self.saved = 0.0
        self.errors: dict[str, int] = {}
        self.guards: dict[str, int] = {}
        self.context: dict[str, int] = {}
        self.latency, self.ttft = Sketch(), Sketch()
        self.per_token, self.queued = Sketch(), Sketch()

    def add(self, event: Finished, saved: float) -> None:
        """One more request. Only what was answered has a latency: a refusal is quick and would
        hide how long answers take."""
        self.requests += 1
        self.failed += event.failed
        self.prompt_tokens += event.prompt_tokens
        self.completion_tokens += event.completion_tokens
        self.cost += event.cost
        if event.error:
            _count(self.errors, event.error)
        for guard in event.guards:
            _count(self.guards, guard)
        if event.context:
            _count(self.context, event.context)
        self.queued.add(event.queued)
        if event.answered:
            self.answered += 1
            self.local += event.route == "local"
            self.saved += saved
            self.latency.add(event.latency)
            if event.ttft is not None:
                self.ttft.add(event.ttft)
            if (seconds := event.per_token) is not None:
                self.per_token.add(seconds)

    def merge(self, other: Tally) -> None:
        """Add all of `other`."""
        for name in ("requests", "answered", "failed", "local", "prompt_tokens",
                     "completion_tokens", "cost", "saved"):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("errors", "guards", "context"):
            mine = getattr(self, name)
            for code, count in getattr(other, name).items():
                _count(mine, code, count)
        for name in ("latency", "ttft", "per_token", "queued"):
            getattr(self, name).merge(getattr(other, name))

    def figures(self, seconds: float) -> dict[str, Any]:
        """As JSON has it, `seconds` being the time that it is of; None stands for what is unknown.

        `latency`, `ttft`, `per_token` and `queued` have p50, p95, p99 and `most`, in seconds;
        `error_rate` is the share of requests that we failed, `share_local` that of the answers
        which engines of ours gave; `tokens_per_second` are those of answers.
        """
        return {
            "seconds": seconds,
            "requests": self.requests,
            "requests_per_second": self.requests / seconds if seconds else 0.0,
            "answered": self.answered,
            "failed": self.failed,
            "error_rate": self.failed / self.requests if self.requests else None,
            "errors": dict(self.errors),
            "latency": _percentiles(self.latency),
            "ttft": _percentiles(self.ttft),
            "per_token": _percentiles(self.per_token),
            "queued": _percentiles(self.queued),
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "tokens_per_second": self.completion_tokens / seconds if seconds else 0.0,
            "share_local": self.local / self.answered if self.answered else None,
            "cost": self.cost,
            "saved": self.saved,
            "guards": dict(self.guards),
            "context": dict(self.context),
        }


Slice = dict[str, Tally]


def merged(tallies: Iterable[Tally]) -> Tally:
    """The sum of all."""
    whole = Tally()
    for one in tallies:
        whole.merge(one)
    return whole


class Windows:
    """Counts requests by model in sliding windows. `now` is of one clock that never goes back, in
    seconds; `models` are the names that are kept apart, at most `MODELS`.

    `pieces` has each model's past, five minutes a `Piece`, a day of them.
    """

    def __init__(self, models: Iterable[str], now: float) -> None:
        self.since = now
        self.models = frozenset(list(models)[:MODELS])
        self.pieces: dict[str, deque[Piece]] = {}
        above: _Ring | None = None
        self._rings: dict[str, _Ring] = {}
        for name, size in reversed(SIZES.items()):
            told = self._remember if name == PIECE else None
            above = self._rings[name] = _Ring(size, now, above, told)

    def name(self, model: str) -> str:
        """The name under which `model` is counted."""
        return model if model in self.models else OTHER

    def add(self, event: Finished, saved: float, now: float) -> None:
        """Count a request."""
        shortest = self._rings["1m"]
        shortest.advance(now)
        name = self.name(event.model)
        if name not in shortest.open:
            shortest.open[name] = Tally()
        shortest.open[name].add(event, saved)

    def over(self, window: str, now: float) -> dict[str, Tally]:
        """What `window`, one of `SIZES`, has by model. Not to be changed."""
        self._rings["1m"].advance(now)
        names = list(SIZES)
        within = [self._rings[name].open for name in names[: names.index(window) + 1]]
        return _sum([self._rings[window].closed(), *within])

    def figures(self, now: float) -> dict[str, Any]:
        """As JSON has it: `windows` has, by each of `SIZES`, the figures of all requests
        (`Tally.figures`); `models` has by model, `OTHER` among them, the same by window."""
        models: dict[str, dict[str, Any]] = {}
        windows = {}
        for window in SIZES:
            seconds, found = self.seconds(window, now), self.over(window, now)
            windows[window] = merged(found.values()).figures(seconds)
            for name, tally in found.items():
                models.setdefault(name, {})[window] = tally.figures(seconds)
        return {"windows": windows, "models": models}

    def seconds(self, window: str, now: float) -> float:
        """How long `window` is now."""
        size = SIZES[window]
        return min(now - self.since, SLICES * size + now % size)

    def _remember(self, slice_: Slice) -> None:
        for name, one in slice_.items():
            p95 = one.latency.quantile(0.95)
            if p95 and one.latency.count >= PIECE_REQUESTS:
                kept = self.pieces.setdefault(name, deque(maxlen=PIECES))
                kept.append(Piece(p95, one.per_token.quantile(0.5), one.completion_tokens))


class _Ring:
    """Slices of `size` seconds: one that is `open`, and the last ones that are over. Each goes on
    into `above`, whose slices are longer, and is shown to `told`."""

    def __init__(
        self, size: float, now: float, above: _Ring | None, told: Callable[[Slice], None] | None
    ) -> None:
        self.open: Slice = {}
        self._size = size
        self._index = now // size
        self._above = above
        self._told = told
        self._over: deque[tuple[float, Slice]] = deque()
        self._sum: Slice | None = None

    def advance(self, now: float) -> None:
        """Close the slice that is over, if it is."""
        index = now // self._size
        if index <= self._index:
            return
        if self.open:
            self._close()
        self.open, self._index, self._sum = {}, index, None
        while self._over and self._over[0][0] < index - SLICES:
            self._over.popleft()
        if self._above:
            self._above.advance(now)

    def _close(self) -> None:
        self._over.append((self._index, self.open))
        if self._above:
            # It may be the first of a longer slice, where the last one was never closed.
            self._above.advance(self._index * self._size)
            self._above.open = _sum([self._above.open, self.open])
        if self._told:
            self._told(self.open)

    def closed(self) -> Slice:
        """The sum of the slices that are over."""
        if self._sum is None:
            self._sum = _sum([slice_ for _, slice_ in self._over])
        return self._sum


def _sum(slices: Iterable[Slice]) -> Slice:
    whole: Slice = {}
    for slice_ in slices:
        for name, one in slice_.items():
            if name not in whole:
                whole[name] = Tally()
            whole[name].merge(one)
    return whole


def _percentiles(sketch: Sketch) -> dict[str, float | None]:
    found = sketch.quantiles(tuple(PERCENTILES))
    named = {name: found[share] for share, name in PERCENTILES.items()}
    return {**named, "most": sketch.most if sketch.count else None}


def _count(counts: dict[str, int], name: str, more: int = 1) -> None:
    if name not in counts and len(counts) >= CODES:
        name = OTHER
    counts[name] = counts.get(name, 0) + more
