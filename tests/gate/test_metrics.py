from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.gate.metrics import field_f1, length, macro_f1, measure, rouge_l
from residency.repetition import repeats


def test_macro_f1_weighs_labels_alike() -> None:
    # a: 3 of 4 found, none wrongly given: F1 6/7. b: found, and given once wrongly: F1 2/3.
    found = macro_f1(["a", "a", "a", "b", " b"], ["a", "a", "a", "a", "b"])
    assert found.value == pytest.approx((6 / 7 + 2 / 3) / 2)
    assert found.low < found.value < found.high
    assert macro_f1(["c", "c"], ["a", "b"]).value == 0


def test_field_f1_pays_for_what_is_missing_and_for_what_is_made_up() -> None:
    right = '{"a": 1, "b": {"x": 1, "y": 2}}'
    assert field_f1(['{"b": {"y": 2, "x": 1.0}, "a": 1.0}'], [right]).value == 1
    assert field_f1(['{"a": 1}'], [right]).value == pytest.approx(2 / 3)
    assert field_f1(['{"a": 1, "b": 2, "c": 3}'], [right]).value == pytest.approx(2 / 5)
    assert field_f1(['{"a": true}'], ['{"a": 1}']).value == 0
    assert field_f1([], []).n == 0
    assert field_f1(["no json", right], [right, right]).value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("answer", "reference", "value"),
    [
        ("police killed the gunman", "police kill the gunman", 0.75),  # Lin (2004), section 3
        ("the gunman kill police", "police kill the gunman", 0.5),
        ("明天下午见", "明天上午见", 0.8),
        ("", "", 1.0),
        ("", "word", 0.0),
    ],
)
def test_rouge_l(answer: str, reference: str, value: float) -> None:
    assert rouge_l(answer, reference) == pytest.approx(value)


@given(st.text(max_size=50), st.text(max_size=50))
def test_rouge_l_is_a_share(one: str, other: str) -> None:
    assert 0 <= rouge_l(one, other) <= 1
    assert rouge_l(one, one) == 1


def test_a_loop_is_seen_wherever_it_stands() -> None:
    loop = "I am happy to help you with that. " * 30
    assert repeats(loop)
    assert repeats(loop + "And then it went on to say quite another thing, of its own accord.")
    assert not repeats("A list: 1, 2, 3, 4, 5. That is all.")


def test_length_is_of_all_tokens() -> None:
    assert length(["one two", "三四五六"], ["one", "三四"]).value == 2


def test_each_kind_has_its_figures() -> None:
    shared = {"accuracy", "refusals", "repetition", "length"}
    assert measure("label", ["a"], ["a"]).keys() == shared | {"macro_f1"}
    assert measure("json", ["{"], ["{}"]).keys() == shared | {"field_f1", "valid_json"}
    figures = measure("text", ["I'm unable to help.", "Yes."], ["Yes.", "yes"])
    assert figures.keys() == shared | {"rouge_l"}
    assert (figures["refusals"].value, figures["accuracy"].value) == (0.5, 0.5)
