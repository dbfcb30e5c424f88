from __future__ import annotations

import pytest

from residency.config import Endpoint, GateSettings
from residency.errors import SettingsError
from residency.gate.rules import Rules
from residency.gate.score import Kind
from tests.gate.results import rules_of


def test_the_rule_says_that_the_value_decides() -> None:
    rule = rules_of("json", exact=0.75, gain=0.5).in_words()
    assert "exact match is at least 0.75" in rule
    assert "at most 10% of its answers differ" in rule
    assert "The measured value decides, not the lower end of its interval" in rule


@pytest.mark.parametrize(
    ("kind", "settings", "name"),
    [
        ("label", GateSettings(valid_json=0.9), "gate.valid_json"),
        ("text", GateSettings(fields=0.9), "gate.fields"),
        ("json", GateSettings(similarity=0.9), "gate.similarity"),
    ],
)
def test_a_threshold_that_cannot_be_measured_is_refused(
    kind: Kind, settings: GateSettings, name: str
) -> None:
    with pytest.raises(SettingsError, match=f"{name} is set") as caught:
        Rules(settings=settings, kind=kind).check()
    assert name in caught.value.hint


def test_thresholds_that_fit_are_accepted() -> None:
    rules_of("json", exact=0.5, fields=0.5, valid_json=0.5, gain=0.1).check()
    rules_of("text", exact=0.5, similarity=0.5, gain=0.1).check()
    rules_of("label", exact=0.5, gain=0.1).check()


def test_the_gain_is_in_what_is_asked_for() -> None:
    assert rules_of("text", gain=0.1).main == "similarity"
    assert rules_of("text", gain=0.1, exact=0.5).main == "exact"
    assert rules_of("label", gain=0.1).main == "exact"


def test_every_rule_is_in_words() -> None:
    rule = rules_of(
        "label", drop=0.02, worse_than_api=0.05, recorded="x", latency=2.5, memory=900
    ).in_words()
    for words in (
        "its loss against f16 in exact match is at most 0.02",
        "worse than the API by no more than 0.05 in exact match",
        "95 of 100 answers take at most 2.5 s",
        "at most 900 MB of memory",
    ):
        assert words in rule


def test_rules_about_what_is_not_measured_are_refused() -> None:
    with pytest.raises(SettingsError, match="nothing has the API's answers"):
        rules_of("label", worse_than_api=0.05).check()
    with pytest.raises(SettingsError, match="no scorer"):
        rules_of("label", score=0.5).check()
    rules_of("label", worse_than_api=0.05, api=Endpoint(url="http://127.0.0.1:9")).check()
