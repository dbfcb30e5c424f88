from __future__ import annotations

import csv
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from residency.gate.similar import (
    FEATURES,
    FOR,
    WITHOUT_ENCODER,
    Quantity,
    features,
    load,
    quantity,
    same_value,
)

ROOT = Path(__file__).parents[2]


class Constant:
    """An encoder to which all texts are one."""

    identity = "constant"

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        return np.tile(np.float32([1, 0]), (len(texts), 1))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1,200", "1200.0", True),
        ("$1,200", "1200 dollars.", True),
        ("7%", "7 percent", True),
        ("7%", "0.07", True),
        ("3 days", "3 day", True),
        ("３００元", "300 元", True),
        ("3 km", "3 miles", False),
        ("-5", "5", False),
        ("-$5", "$-5", True),
        ("1200", "1201", False),
    ],
)
def test_numbers_are_compared_by_value(one: str, other: str, same: bool) -> None:
    ours, theirs = quantity(one), quantity(other)
    assert ours is not None and theirs is not None
    assert same_value(ours, theirs) is same
    wanted = ["exact" if same else "different"]
    assert load(None).relations("text", [one], [other]) == wanted
    assert load(None).relations("label", [one], [other]) == wanted


@pytest.mark.parametrize("text", ["", "no number", "1,20", "12 June 2021", "3 4", "about 5"])
def test_no_quantity(text: str) -> None:
    assert quantity(text) is None


@given(st.integers(0, 10**9))
def test_a_number_is_itself_however_it_is_written(value: int) -> None:
    assert quantity(f"{value:,}") == quantity(f"{value}.0") == Quantity(value=value, unit="")


def test_each_kind_has_its_meaning() -> None:
    measure = load(None)
    assert measure.relations("label", ["refund", "refund"], [" refund ", "refunds"]) == [
        "exact",
        "different",
    ]
    assert measure.relations("json", ['{"a": 1, "b": 2}'], ['{"a": 1, "b": 3}']) == ["similar"]
    assert measure.relations("text", ["Yes, it is."], ["yes, it is"]) == ["exact"]
    assert measure.relations("text", [], []) == []


def test_what_contradicts_is_different_whatever_it_shares() -> None:
    long = "Your order has left our warehouse and will reach you within {} days; thank you."
    said = load(None).relations(
        "text", [long.format(3)] * 3, [long.format(x) for x in (3, 5, "三")]
    )
    assert said[:2] == ["exact", "different"]


def test_without_its_own_encoder_it_says_so() -> None:
    assert load(None).note == WITHOUT_ENCODER
    other = load(Constant())
    assert other.encoder is None
    assert "constant" in other.note


def test_the_encoder_is_the_cosine() -> None:
    pair = (["one text"], ["quite another"])
    without, with_it = features(*pair, None)[0], features(*pair, Constant())[0]
    place = FEATURES.index("cosine")
    assert (without[place], with_it[place]) == (0, 1)
    assert np.array_equal(np.delete(without, place), np.delete(with_it, place))


@given(st.text(max_size=60), st.text(max_size=60))
def test_features_are_shares_and_know_no_order(one: str, other: str) -> None:
    there, back = features([one], [other], None), features([other], [one], None)
    assert np.allclose(there, back)
    assert ((there >= 0) & (there <= 1)).all()


def test_nothing_counts_the_wrong_way() -> None:
    weights = load(None).weights
    assert all((weight > 0) == (name in FOR) for name, weight in weights.items())


def test_the_pairs_are_pairs() -> None:
    text = resources.files("residency.gate").joinpath("pairs.tsv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(rows) >= 240
    assert len({row["one"] for row in rows}) == len(rows)
    assert all(None not in row.values() and row["one"] != row["other"] for row in rows)


def test_shipped_coefficients_are_those_of_the_script() -> None:
    script = [sys.executable, str(ROOT / "scripts/fit_similarity.py"), "--check"]
    ran = subprocess.run(script, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
