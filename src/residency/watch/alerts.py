"""From what rules find to alerts: not at the first glance, not for ever, and told together.

    rules.findings(facts)  ->  step(state, ...)  ->  changes  ->  Grouping  ->  notify

`step` is pure: a state and what is found now make the next state and what has changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from residency.config import Silence, WatchSettings

Severity = Literal["warn", "page"]
GROUPED_SECONDS = 30.0
"""What begins or ends within so many seconds of the first is told with it; a page at once."""


class Key(NamedTuple):
    """A rule, and where it sees something: a model, an engine, or this gateway."""

    rule: str
    where: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a rule sees now: `value` is beyond `bound`. `words` say what is wrong and by how much,
    `first` the first thing to try."""

    rule: str
    where: str
    severity: Severity
    value: float
    bound: float
    words: str
    first: str

    @property
    def key(self) -> Key:
        return Key(self.rule, self.where)


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """A finding that lasts, `since` when it was first seen, in seconds since 1970."""

    finding: Finding
    since: float
    silenced: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, times in ISO 8601."""
        one = self.finding
        return {
            "rule": one.rule,
            "where": one.where,
            "severity": one.severity,
            "since": iso(self.since),
            "value": one.value,
            "bound": one.bound,
            "words": one.words,
            "first": one.first,
            "silenced": self.silenced,
        }


class Change(NamedTuple):
    """An alert that began, became a page, or is over, at `time` (seconds since 1970)."""

    kind: Literal["began", "worse", "over"]
    alert: Alert
    time: float


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """`seen` says since when something is found that is no alert yet, `alerts` are those, `clear`
    says since when nothing is found where there is one."""

    seen: Mapping[Key, float] = field(default_factory=dict)
    alerts: Mapping[Key, Alert] = field(default_factory=dict)
    clear: Mapping[Key, float] = field(default_factory=dict)


class Step(NamedTuple):
    """The next state, and what has changed."""

    state: State
    changes: list[Change]


def step(state: State, findings: Sequence[Finding], settings: WatchSettings, now: float) -> Step:
    """What is found for `settings.after` seconds without a break is an alert; one of which nothing
    is found for `settings.keep` seconds is over. `now` is in seconds since 1970."""
    found = {one.key: one for one in findings}
    seen = {key: state.seen.get(key, now) for key in found if key not in state.alerts}
    alerts, clear, changes = dict(state.alerts), dict[Key, float](), list[Change]()
    for key, one in found.items():
        silenced = any(covers(silence, key, now) for silence in settings.silence)
        old = alerts.get(key)
        since = old.since if old else seen[key]
        if not old and now - since < settings.after:
            continue
        alerts[key] = alert = Alert(finding=one, since=since, silenced=silenced)
        seen.pop(key, None)
        if not old:
            changes.append(Change("began", alert, now))
        elif one.severity == "page" != old.finding.severity:
            changes.append(Change("worse", alert, now))
    for key, alert in state.alerts.items():
        if key in found:
            continue
        clear[key] = state.clear.get(key, now)
        if now - clear[key] >= settings.keep:
            changes.append(Change("over", alert, now))
            del alerts[key], clear[key]
    return Step(State(seen=seen, alerts=alerts, clear=clear), changes)


def covers(silence: Silence, key: Key, now: float) -> bool:
    """Whether `silence` keeps that alert quiet."""
    return (
        silence.rule in ("", key.rule)
        and silence.where in ("", key.where)
        and now < silence.until.timestamp()
    )


class Grouping:
    """Changes that wait to be told together."""

    def __init__(self) -> None:
        self._waiting: list[Change] = []

    def add(self, changes: Sequence[Change]) -> None:
        """Changes of alerts that are not silenced."""
        self._waiting += [one for one in changes if not one.alert.silenced]

    def due(self, now: float) -> list[Change]:
        """What is to be told now; it waits no longer. The worst first."""
        pages = any(one.alert.finding.severity == "page" for one in self._waiting)
        if not self._waiting or not (pages or now - self._waiting[0].time >= GROUPED_SECONDS):
            return []
        told, self._waiting = self._waiting, []
        return sorted(told, key=lambda one: one.alert.finding.severity)


def iso(time: float) -> str:
    """Seconds since 1970 as ISO 8601, UTC."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
