from __future__ import annotations

import pytest

from residency.config import GateSettings
from residency.errors import SettingsError
from residency.gate.verdict import Outcome, check_settings, decide, gain_of, rule_in_words
from tests.gate.results import mark_all, tally_all


def labels(right: int, of: int = 100, *, wrong: str = "b") -> list[str]:
    return ["a"] * right + [wrong] * (of - right)


def judge(settings: GateSettings, **texts: list[str]) -> Outcome:
    given = {"base-f16": labels(10), "f16": labels(90), **texts}
    marked = mark_all("label", ["a"] * len(given["f16"]), given)
    return decide(tally_all(marked), settings, "label")


def reasons(outcome: Outcome) -> dict[str, str]:
    return {one.build: one.reason for one in outcome.judgements}


def test_the_smallest_build_that_passes_is_released() -> None:
    found = judge(GateSettings(exact=0.8), Q8_0=labels(89), Q4_K_M=labels(85))
    assert found.release == "Q4_K_M"
    assert [one.passed for one in found.judgements] == [None, True, True, True]
    assert "Q4_K_M ships" in found.headline


def test_a_build_that_strays_from_f16_is_too_aggressive() -> None:
    found = judge(GateSettings(exact=0.5), Q8_0=labels(89), Q4_K_M=labels(70))
    assert found.release == "Q8_0"
    assert "20% of its answers differ" in reasons(found)["Q4_K_M"]
    assert "too aggressive" in reasons(found)["Q4_K_M"]
    assert "Q4_K_M did not pass" in found.headline


def test_exactly_at_the_limits_passes() -> None:
    found = judge(GateSettings(exact=0.8, different=0.1), Q4_K_M=labels(80))
    assert found.release == "Q4_K_M"


def test_f16_is_a_candidate_and_the_base_is_not() -> None:
    found = judge(GateSettings(exact=0.9), Q4_K_M=labels(89))
    assert found.release == "f16"
    perfect_base = {"base-f16": labels(100), "f16": labels(50)}
    assert judge(GateSettings(exact=0.9), **perfect_base).release is None


def test_a_specialist_that_fails_is_told_by_how_much() -> None:
    found = judge(GateSettings(exact=0.95, gain=0.85), Q4_K_M=labels(88))
    assert found.release is None
    assert "the specialist itself does not reach" in found.headline
    assert "exact match 0.900 is below 0.95" in reasons(found)["f16"]
    assert "lead over the base model in exact match 0.800 is below 0.85" in reasons(found)["f16"]


def test_a_build_that_passes_where_f16_fails_is_released_with_a_word() -> None:
    found = judge(GateSettings(exact=0.91), Q8_0=labels(92))
    assert found.release == "Q8_0"
    assert "the unquantized specialist fails by itself" in found.headline


def test_without_thresholds_only_the_difference_decides() -> None:
    found = judge(GateSettings(), f16=labels(0), Q4_K_M=labels(50))
    assert found.release == "f16"
    assert "No threshold of quality is set" in found.rule


def test_the_rule_says_that_the_value_decides() -> None:
    rule = rule_in_words(GateSettings(exact=0.75, gain=0.5), "json")
    assert "exact match is at least 0.75" in rule
    assert "at most 10% of its answers differ" in rule
    assert "The measured value decides, not the lower end of its interval" in rule


def test_a_test_split_too_small_to_tell_is_said_once() -> None:
    few = judge(GateSettings(exact=0.8), f16=labels(9, 10), **{"base-f16": labels(1, 10)})
    assert few.release == "f16"
    assert few.doubt.startswith("10 test cases are too few to tell for sure")
    assert "exact match lies between 0.60 and 0.98, and so does the threshold 0.8" in few.doubt
    assert judge(GateSettings(exact=0.5)).doubt == ""


@pytest.mark.parametrize(
    ("kind", "settings", "name"),
    [
        ("label", GateSettings(valid_json=0.9), "gate.valid_json"),
        ("text", GateSettings(fields=0.9), "gate.fields"),
        ("json", GateSettings(similarity=0.9), "gate.similarity"),
    ],
)
def test_a_threshold_that_cannot_be_measured_is_refused(
    kind: str, settings: GateSettings, name: str
) -> None:
    with pytest.raises(SettingsError, match=f"{name} is set") as caught:
        check_settings(kind, settings)
    assert name in caught.value.hint


def test_thresholds_that_fit_are_accepted() -> None:
    check_settings("json", GateSettings(exact=0.5, fields=0.5, valid_json=0.5, gain=0.1))
    check_settings("text", GateSettings(exact=0.5, similarity=0.5, gain=0.1))
    check_settings("label", GateSettings(exact=0.5, gain=0.1))


def test_the_gain_is_in_what_is_asked_for() -> None:
    assert gain_of("text", GateSettings(gain=0.1)) == "similarity"
    assert gain_of("text", GateSettings(gain=0.1, exact=0.5)) == "exact"
    assert gain_of("label", GateSettings(gain=0.1)) == "exact"
