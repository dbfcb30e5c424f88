from __future__ import annotations

import pytest

from residency.gate import similar
from residency.gate.tally import mark, measured, tally_all
from tests.gate.results import answer, tally_of

RIGHT = ['{"a": 1, "b": 2}'] * 4
HALF = '{"a": 1, "b": 0}'


def test_json_figures() -> None:
    base, f16, small = tally_of(
        "json",
        RIGHT,
        {
            "base-f16": ["no"] * 4,
            "f16": [RIGHT[0]] * 3 + [HALF],
            "Q8_0": [RIGHT[0], RIGHT[0], HALF, "no"],
        },
    )
    assert set(base.rates) == {*measured("json")}
    assert set(f16.rates) == {*measured("json"), "gain"}
    assert set(small.rates) == {*measured("json"), "gain", "different", "loss"}
    assert base.relations == f16.relations == {}
    assert small.relations == {"exact": 2, "similar": 1, "different": 1}
    values = {name: rate.value for name, rate in small.rates.items()}
    assert values == pytest.approx(
        {
            "exact": 0.5,
            "fields": 0.625,
            "valid_json": 0.75,
            "gain": 0.5,
            "different": 0.25,
            "loss": 0.25,
        }
    )
    assert {n: r.value for n, r in small.by_field.items()} == {"a": 0.75, "b": 0.5}
    assert all(rate.n == 4 for rate in small.rates.values())
    assert (f16.p, small.p, small.discordant) == (None, 1.0, 0.25)
    assert small.metrics["field_f1"].value == pytest.approx(10 / 14)


def test_p_values_are_corrected_for_the_builds_tried() -> None:
    worse = ["b"] * 6 + ["a"] * 4
    texts = {"base-f16": worse, "f16": ["a"] * 10, "Q8_0": ["a"] * 10, "Q4_K_M": worse}
    *_, same, other = tally_of("label", ["a"] * 10, texts)
    assert same.p == 1.0
    assert other.p == pytest.approx(2 * 2 * 0.5**6)


def test_the_api_is_compared_on_the_cases_that_it_answered() -> None:
    texts = {"base-f16": ["b"] * 4, "f16": ["a", "a", "a", "b"], "api": ["a", "b"]}
    base, f16, api = tally_of("label", ["a"] * 4, texts)
    assert (
        f16.to_api
        == base.to_api | {"exact": 1, "different": 1}
        == {
            "exact": 1,
            "similar": 0,
            "different": 1,
        }
    )
    assert (f16.rates["lead"].value, f16.rates["lead"].n) == (0.5, 2)
    assert "lead" not in base.rates
    assert set(api.rates) == {"exact"} and api.rates["exact"].n == 2


def test_a_build_without_answers_has_a_fault_and_no_figures() -> None:
    texts = {"base-f16": ["b"] * 4, "f16": ["a"] * 4, "Q8_0": []}
    *_, broken = tally_of("json", ["{}"] * 4, texts, faults={"Q8_0": "it died"})
    assert broken.fault == "it died"
    assert broken.rates["exact"].n == 0 and broken.p is None and not broken.metrics


def test_gain_of_text_can_be_in_similarity() -> None:
    right = ["come at nine", "bring the card"]
    texts = {"base-f16": ["no", "no"], "f16": ["come at ten", "bring the card"]}
    _, exact = tally_of("text", right, texts)
    _, similarity = tally_of("text", right, texts, "similarity")
    assert exact.rates["gain"].value == 0.5
    assert similarity.rates["gain"].value == pytest.approx((2 / 3 + 1) / 2, abs=1e-5)
    assert set(measured("text")) < set(exact.rates)


def test_answers_at_the_token_limit_are_counted() -> None:
    given = {0: answer("a"), 1: answer("b", finish_reason="length")}
    f16 = mark("label", similar.load(None), "f16", 1, ["a", "a"], given, {"f16": given})
    marked = {"base-f16": f16, "f16": f16}
    assert tally_all("label", marked, ["a", "a"], "exact", {})[1].cut == 1
