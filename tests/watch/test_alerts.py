from __future__ import annotations

from datetime import UTC, datetime
from textwrap import dedent

import pytest

from residency.config import Silence, WatchSettings, parse
from residency.watch.alerts import (
    GROUPED_SECONDS,
    Change,
    Finding,
    Grouping,
    Key,
    Severity,
    State,
    covers,
    step,
)
from tests.engines.processes import ROOT

SETTINGS = WatchSettings(after=60.0, keep=300.0)


def finding(
    rule: str = "slow", where: str = "desk", severity: Severity = "warn", value: float = 2.0
) -> Finding:
    return Finding(
        rule=rule, where=where, severity=severity, value=value, bound=1.0, words="w", first="f"
    )


def replay(
    course: list[tuple[float, list[Finding]]], settings: WatchSettings = SETTINGS
) -> tuple[State, list[Change]]:
    state, every = State(), list[Change]()
    for now, found in course:
        state, changes = step(state, found, settings, now)
        every += changes
    return state, every


def test_what_lasts_is_an_alert_and_is_told_once() -> None:
    state, changes = replay([(float(t), [finding(value=t)]) for t in range(0, 200, 5)])
    assert [(one.kind, one.time, one.alert.since) for one in changes] == [("began", 60.0, 0.0)]
    (alert,) = state.alerts.values()
    assert alert.finding.value == 195  # as it is now


def test_what_comes_and_goes_is_none() -> None:
    course = [(float(t), [finding()] if t % 50 else []) for t in range(0, 600, 5)]
    state, changes = replay(course)
    assert not changes and not state.alerts


def test_it_is_over_when_nothing_was_found_for_long_enough() -> None:
    bad: list[tuple[float, list[Finding]]] = [(float(t), [finding()]) for t in (0, 60)]
    gap: list[tuple[float, list[Finding]]] = [(100.0, []), (350.0, []), (360.0, [finding()])]
    end: list[tuple[float, list[Finding]]] = [(400.0, []), (699.0, []), (700.0, [])]
    state, changes = replay([*bad, *gap, *end])
    assert [(one.kind, one.time) for one in changes] == [("began", 60.0), ("over", 700.0)]
    assert state == State()


def test_a_warning_that_becomes_a_page_is_told_again_and_a_page_that_eases_is_not() -> None:
    course = [
        (0.0, [finding()]),
        (60.0, [finding()]),
        (65.0, [finding(severity="page")]),
        (70.0, [finding(severity="warn")]),
    ]
    assert [one.kind for one in replay(course)[1]] == ["began", "worse"]


def test_rules_and_places_are_apart() -> None:
    both = [finding(), finding(where="big"), finding("errors")]
    state, changes = replay([(0.0, both), (60.0, both), (65.0, both[:1])])
    assert len(changes) == len(state.alerts) == 3
    assert len(state.clear) == 2


@pytest.mark.parametrize(
    ("rule", "where", "quiet"),
    [("slow", "", True), ("", "desk", True), ("", "", True), ("slow", "big", False)],
)
def test_a_silenced_alert_is_there_and_not_told(rule: str, where: str, quiet: bool) -> None:
    until = datetime.fromtimestamp(1000.0, UTC)
    settings = SETTINGS.model_copy(
        update={"silence": [Silence(rule=rule, where=where, until=until)]}
    )
    state, changes = replay([(0.0, [finding()]), (60.0, [finding()])], settings)
    grouping = Grouping()
    grouping.add(changes)
    assert len(grouping.due(60.0 + GROUPED_SECONDS)) == (0 if quiet else 1)
    (alert,) = state.alerts.values()
    assert alert.to_dict()["silenced"] is quiet
    after, _ = step(state, [finding()], settings, 1000.0)
    assert not next(iter(after.alerts.values())).silenced


def test_the_settings_in_the_guide_load() -> None:
    text = (ROOT / "docs/guides/watching.md").read_text()
    lines = text.partition("\n    [watch]\n")[2].partition("\n\n| rule")[0]
    made = parse(f'name = "desk"\n[data]\nfile = "x"\n[watch]\n{dedent(lines)}', "guide").watch
    assert made.mail is not None and made.mail.to == ["on-call@example.com"]
    (silence,) = made.silence
    assert covers(silence, Key("slow", "clinic-desk"), 1_800_000_000.0)
    assert not covers(silence, Key("slow", "clinic-desk"), 1_900_000_000.0)
    assert not covers(silence, Key("errors", "clinic-desk"), 1_800_000_000.0)


def changed(severity: Severity, time: float, rule: str = "slow") -> Change:
    _, (change,) = replay(
        [(time, [finding(rule, severity=severity)])], SETTINGS.model_copy(update={"after": 0.0})
    )
    return change


def test_what_comes_together_is_told_together() -> None:
    grouping = Grouping()
    grouping.add([changed("warn", 0.0)])
    assert grouping.due(10.0) == []
    grouping.add([changed("warn", 20.0, "speed")])
    assert len(grouping.due(GROUPED_SECONDS)) == 2
    assert grouping.due(1000.0) == []


def test_a_page_waits_for_nothing_and_stands_first() -> None:
    grouping = Grouping()
    grouping.add([changed("warn", 0.0), changed("page", 1.0, "errors")])
    assert [one.alert.finding.rule for one in grouping.due(1.0)] == ["errors", "slow"]
