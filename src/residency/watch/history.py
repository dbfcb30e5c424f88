"""Recorded calls counted over time, while they are read: a million of them in a few megabytes."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from residency.config import WatchSettings
from residency.types import Exchange
from residency.watch.finished import Finished, Route, made_to_fit, money_saved
from residency.watch.windows import MODELS, OTHER, Tally

MOST = 60
"""Steps of a chart."""
STEPS = (60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 86_400.0, 7 * 86_400.0)
"""Seconds that a step may have; beyond, weeks together."""


def finished(exchange: Exchange, remote: Collection[str]) -> Finished:
    """A recorded call as the watch sees it. `remote` are the served models that are an API
    elsewhere; an imported log, which tells no route, was answered by one."""
    tags = exchange.tags
    routes = _names(tags.get("routes"))
    local: Route = "remote" if not routes or routes[-1] in remote else "local"
    return Finished(
        id=exchange.id,
        time=exchange.time + exchange.latency,
        api=exchange.api,
        model=exchange.model,
        status=exchange.status,
        latency=exchange.latency,
        ttft=exchange.ttft,
        prompt_tokens=exchange.prompt_tokens,
        completion_tokens=exchange.completion_tokens,
        cost=exchange.cost,
        route=local if exchange.status < 400 else "none",
        target=routes[-1] if routes else "",
        build=exchange.build,
        error=exchange.error or ("" if exchange.status < 400 else f"status {exchange.status}"),
        guards=_names(tags.get("guards")),
        context=made_to_fit(tags.get("context")),
        finish=str(tags.get("finish", "")),
    )


def _names(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()


@dataclass(kw_only=True)
class History:
    """The calls from `start` on and before `end` (seconds since 1970), in steps of `width`
    seconds, in all and by model; of the models beyond `windows.MODELS` one tally is kept."""

    start: float
    end: float
    settings: WatchSettings
    remote: Collection[str]
    steps: dict[int, Tally] = field(default_factory=dict)
    models: dict[str, Tally] = field(default_factory=dict)
    total: Tally = field(default_factory=Tally)
    first: float = math.inf
    last: float = -math.inf

    def __post_init__(self) -> None:
        span = self.end - self.start
        fits = (width for width in STEPS if span / width <= MOST)
        weeks = math.ceil(span / MOST / STEPS[-1]) * STEPS[-1]
        self.width = next(fits, weeks)

    def add(self, exchange: Exchange) -> None:
        """Count one call."""
        event = finished(exchange, self.remote)
        saved = money_saved(event, self.settings)
        step = int((exchange.time - self.start) // self.width)
        model = event.model
        if model not in self.models and len(self.models) >= MODELS:
            model = OTHER
        for one in (
            self.steps.setdefault(step, Tally()),
            self.models.setdefault(model, Tally()),
            self.total,
        ):
            one.add(event, saved)
        self.first, self.last = min(self.first, exchange.time), max(self.last, exchange.time)

    def figures(self) -> dict[str, Any]:
        """As JSON has it: `steps` from the first to the last, also those without calls."""
        count = max(1, math.ceil((self.end - self.start) / self.width))
        return {
            "width": self.width,
            "steps": [
                {
                    "start": self.start + n * self.width,
                    **self.steps.get(n, Tally()).figures(self.width),
                }
                for n in range(count)
            ],
            "total": self.total.figures(self.end - self.start),
            "models": {
                name: one.figures(self.end - self.start)
                for name, one in sorted(self.models.items(), key=lambda pair: -pair[1].requests)
            },
        }
