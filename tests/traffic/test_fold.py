from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.traffic.fold import folded


def test_case_spacing_and_numbers_make_no_difference() -> None:
    texts = ["Cancel order 1234567890", "where are you", "cancel  ORDER 7", "我的余额是多少"]
    representatives, of = folded(texts)
    assert representatives.tolist() == [0, 1, 3]
    assert of.tolist() == [0, 1, 0, 2]


def test_nearly_the_same_words_are_one() -> None:
    _, of = folded(["please send me the invoice of may", "please send me the invoice of May!"])
    assert of.tolist() == [0, 0]


def test_nothing_folds_into_nothing() -> None:
    representatives, of = folded([])
    assert len(representatives) == len(of) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(alphabet="ab 1余额", max_size=12), min_size=1, max_size=20))
def test_a_representative_stands_for_itself_and_is_the_first_of_its_like(texts: list[str]) -> None:
    representatives, of = folded(texts)
    assert of[representatives].tolist() == list(range(len(representatives)))
    firsts = [int(np.flatnonzero(of == place)[0]) for place in range(len(representatives))]
    assert representatives.tolist() == firsts
