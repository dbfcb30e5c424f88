from __future__ import annotations

import pytest

from residency.gate.tally import mark, measured, tally
from tests.gate.results import answer, mark_all, tally_all

RIGHT = ['{"a": 1, "b": 2}'] * 4
HALF = '{"a": 1, "b": 0}'


def test_json_figures() -> None:
    marked = mark_all(
        "json",
        RIGHT,
        {
            "base-f16": ["no"] * 4,
            "f16": [RIGHT[0]] * 3 + [HALF],
            "Q8_0": [RIGHT[0], RIGHT[0], HALF, "no"],
        },
    )
    base, f16, small = tally_all(marked)
    assert set(base.rates) == {*measured("json")}
    assert set(f16.rates) == {*measured("json"), "gain"}
    assert set(small.rates) == {*measured("json"), "gain", "different"}
    assert base.relations == f16.relations == {}
    assert small.relations == {"exact": 2, "similar": 1, "different": 1}
    values = {name: rate.value for name, rate in small.rates.items()}
    assert values == pytest.approx(
        {"exact": 0.5, "fields": 0.625, "valid_json": 0.75, "gain": 0.5, "different": 0.25}
    )
    assert {n: r.value for n, r in small.by_field.items()} == {"a": 0.75, "b": 0.5}
    assert all(rate.n == 4 for rate in small.rates.values())


def test_gain_of_text_can_be_in_similarity() -> None:
    marked = mark_all(
        "text",
        ["come at nine", "bring the card"],
        {"base-f16": ["no", "no"], "f16": ["come at ten", "bring the card"]},
    )
    base, f16 = marked["base-f16"], marked["f16"]
    exact = tally(f16, base=base, f16=f16, gain_of="exact")
    similar = tally(f16, base=base, f16=f16, gain_of="similarity")
    assert exact.rates["gain"].value == 0.5
    assert similar.rates["gain"].value == pytest.approx((2 / 3 + 1) / 2, abs=1e-5)
    assert set(measured("text")) < set(exact.rates)


def test_answers_at_the_token_limit_are_counted() -> None:
    given = [answer("a"), answer("b", finish_reason="length")]
    f16 = mark("label", "f16", 1, given, ["a", "a"], given)
    assert tally(f16, base=f16, f16=f16, gain_of="exact").cut == 1
