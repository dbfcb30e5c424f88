"""What the gateway tells of itself: every finished request, and a look around now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from residency.config import WatchSettings
from residency.types import to_dict
from residency.watch import rules
from residency.watch.alerts import Change, State, iso, step
from residency.watch.finished import Finished, money_saved
from residency.watch.growth import Series
from residency.watch.metrics import Metrics
from residency.watch.rules import HERE, Drift, Facts
from residency.watch.samples import Sample
from residency.watch.windows import Windows

_RECENT = "5m"


class Observer:
    """Belongs to one event loop. `models` are the names that are kept apart in figures; `clock`
    gives seconds and never goes back. `exports` are called with each finished request too; `drift`
    is what the rules are told of it."""

    def __init__(
        self,
        models: Iterable[str],
        settings: WatchSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.since = time.time()
        self.sample: Sample | None = None
        self.state = State()
        self.drift: Sequence[Drift] = ()
        self.exports: list[Callable[[Finished], None]] = []
        self._clock = clock
        self._windows = Windows(models, clock())
        self._metrics = Metrics(self._windows.name, lambda: self.sample)
        self._memory: dict[tuple[str, int], Series] = {}
        self._disk = Series()

    def finished(self, event: Finished) -> None:
        """Count a request that is over. It costs tens of microseconds (bench/watch.py)."""
        saved = money_saved(event, self.settings)
        self._windows.add(event, saved, self._clock())
        self._metrics.add(event, saved)
        for export in self.exports:
            export(event)

    def name(self, model: str) -> str:
        """The name under which `model` is counted, of a bounded number."""
        return self._windows.name(model)

    def look(self, sample: Sample) -> list[Change]:
        """Take in what is seen now, and say which alerts began, became worse or are over."""
        self.sample = sample
        used = {(HERE, 0): sample.memory}
        used |= {(f"engine of {one.model}", one.pid): one.memory for one in sample.engines}
        self._memory = {
            key: self._memory.get(key) or Series() for key, size in used.items() if size
        }
        for key, series in self._memory.items():
            series.add(sample.time, used[key])
        self._disk.add(sample.time, sample.disk_free)
        found = rules.findings(self._facts(sample), self.settings, self.state.alerts)
        self.state, changes = step(self.state, found, self.settings, sample.time)
        return changes

    def _facts(self, sample: Sample) -> Facts:
        return Facts(
            recent=self._windows.over(_RECENT, self._clock()),
            past=self._windows.pieces,
            sample=sample,
            memory={name: series.readings for (name, _), series in self._memory.items()},
            disk=self._disk.readings,
            drift=self.drift,
        )

    def snapshot(self) -> dict[str, Any]:
        """Everything now, as JSON has it.

        `since` and `now`: when the gateway began to watch, and the time (ISO 8601, UTC).
        `windows` and `models`: `Windows.figures`.
        `engines`: each a `samples.EngineSample`; `gateway`: the rest of `samples.Sample`, or None
        before the first look. `priced`: whether a price is set, so that `saved` means something.
        `alerts`: those there are, the worst first (`alerts.Alert.to_dict`).
        """
        alerts = sorted(self.state.alerts.values(), key=lambda one: one.finding.severity)
        seen = self.sample
        return {
            "since": iso(self.since),
            "now": iso(time.time()),
            "priced": self.settings.api_price_in is not None,
            **self._windows.figures(self._clock()),
            "engines": [to_dict(one) for one in seen.engines] if seen else [],
            "gateway": to_dict(replace(seen, engines=())) if seen else None,
            "alerts": [one.to_dict() for one in alerts],
        }

    def exposition(self) -> bytes:
        """Prometheus's text, of the media type `metrics.CONTENT_TYPE`."""
        return self._metrics.exposition()
