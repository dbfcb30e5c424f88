from __future__ import annotations

from residency.config import GateSettings
from residency.gate import intervals
from residency.gate.answers import Speed
from residency.gate.rules import Rules
from residency.gate.verdict import Outcome, decide, power
from residency.types import Rate
from tests.gate.results import SPEED, tally_of


def labels(right: int, of: int = 100, *, wrong: str = "b") -> list[str]:
    return ["a"] * right + [wrong] * (of - right)


def judge(
    settings: GateSettings,
    *,
    faults: dict[str, str] | None = None,
    noise: Rate | None = None,
    speed: Speed = SPEED,
    **texts: list[str],
) -> Outcome:
    given = {"base-f16": labels(10), "f16": labels(90), **texts}
    tallies = tally_of("label", ["a"] * len(given["f16"]), given, faults=faults)
    rules = Rules(settings=settings, kind="label", noise=noise)
    return decide(tallies, rules, dict.fromkeys(given, speed))


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


def test_a_test_split_too_small_to_tell_is_said_once() -> None:
    few = judge(GateSettings(exact=0.8), f16=labels(9, 10), **{"base-f16": labels(1, 10)})
    assert few.release == "f16"
    assert few.doubt.startswith("10 test cases are too few to tell for sure")
    assert "exact match lies between 0.60 and 0.98, and so does the threshold 0.8" in few.doubt
    assert judge(GateSettings(exact=0.5)).doubt == ""


def test_a_pass_says_why() -> None:
    found = judge(GateSettings(exact=0.8), Q8_0=labels(89))
    assert reasons(found)["Q8_0"] == (
        "passes: exact match 0.890 is at least 0.8; "
        "1% of its answers differ from those of f16, at most 10%"
    )


def test_a_loss_against_f16_has_its_own_limit() -> None:
    found = judge(GateSettings(drop=0.02), Q8_0=labels(89), Q4_K_M=labels(87))
    assert found.release == "Q8_0"
    words = reasons(found)["Q4_K_M"]
    assert "loss against f16 in exact match 0.030, more than 0.02" in words


def test_not_worse_than_the_api_is_to_be_shown() -> None:
    beside = {"Q8_0": labels(88), "api": labels(90)}
    close = judge(GateSettings(worse_than_api=0.1), **beside)
    assert close.release == "Q8_0"
    doubtful = judge(GateSettings(worse_than_api=0.02), **beside)
    assert doubtful.release is None  # nor can 100 equal answers show it of f16
    assert (
        "by no more than 0.02 is not shown (lead over the API in exact match -0.020"
        in (reasons(doubtful)["Q8_0"])
    )
    assert reasons(close)["api"] == "the API, for comparison"


def test_an_api_that_answered_nothing_shows_nothing() -> None:
    found = judge(GateSettings(worse_than_api=0.5), api=[], faults={"api": "no answer: 500"})
    assert found.release is None
    assert "is not shown" in reasons(found)["f16"] and "0 cases" in reasons(found)["f16"]
    assert reasons(found)["api"] == "the API, for comparison; no answer: 500"


def test_latency_and_memory_have_limits() -> None:
    slow = judge(GateSettings(latency=10.0, memory=700))
    assert slow.release is None
    assert reasons(slow)["f16"] == (
        "12.5 s for 95 of 100 answers, more than 10; 800 MB of memory, more than 700"
    )
    assert judge(GateSettings(latency=12.5, memory=800)).release == "f16"


def test_a_faulty_build_fails_alone() -> None:
    found = judge(GateSettings(exact=0.5), Q8_0=labels(90), Q4_K_M=[], faults={"Q4_K_M": "NaN"})
    assert found.release == "Q8_0"
    assert reasons(found)["Q4_K_M"] == "NaN"


def test_a_difference_within_the_noise_is_none() -> None:
    noise = intervals.rate([True, True, True] + [False] * 7)
    build = labels(70)
    assert judge(GateSettings(), Q8_0=build).release == "f16"
    found = judge(GateSettings(), Q8_0=build, noise=noise)
    assert found.release == "Q8_0"
    assert "no more than a build asked twice from itself" in reasons(found)["Q8_0"]


def test_the_doubt_says_how_many_cases_would_tell() -> None:
    few = judge(GateSettings(exact=0.8), f16=labels(9, 10), **{"base-f16": labels(1, 10)})
    assert "(about 62 cases would tell)" in few.doubt
    assert intervals.wilson(0.9, 62).low >= 0.8 > intervals.wilson(0.9, 61).low


def test_what_the_test_split_can_tell() -> None:
    given = {"base-f16": labels(5, 60), "f16": labels(54, 60), "Q8_0": labels(53, 60)}
    _, _, level = tally_of("label", ["a"] * 60, given)
    words = power(level, GateSettings())
    assert words.startswith("With 60 cases you can't tell a difference of 2.0%; you need ")
    assert power(level, GateSettings(drop=0.5)) == (
        "60 cases are enough to tell a difference of 50.0%."
    )
