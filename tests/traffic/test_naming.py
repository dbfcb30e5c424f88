from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.traffic.naming import examples, names


def test_words_that_tell_come_in_the_order_in_which_they_are_said() -> None:
    texts = [
        "please freeze my account",
        "can you freeze the account",
        "please order new checks",
        "can you order the checks",
    ]
    assert names(texts, np.array([0, 0, 1, 1])) == ["freeze account", "order new checks"]


def test_forms_of_one_word_are_said_once() -> None:
    texts = ["transaction transactions", "transactions transaction", "balance"]
    assert names(texts, np.array([0, 0, 1]))[0] == "transaction"


def test_chinese_is_named_by_pairs_of_characters() -> None:
    texts = ["查询账户余额", "我想知道余额", "我要挂失", "银行卡挂失"]
    first, second = names(texts, np.array([0, 0, 1, 1]))
    assert "余额" in first.split()
    assert "挂失" in second.split()


def test_placeholders_and_numbers_are_no_words() -> None:
    texts = ["mail [EMAIL_1] 12345", "mail [EMAIL_2] 777"]
    assert names(texts, np.array([0, 0])) == ["mail"]


def test_no_words_at_all_still_have_names() -> None:
    assert names(["?", "!"], np.array([0, 1])) == ["no words", "no words (2)"]


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.sampled_from(["pay", "pay bill", "bill date due", ""]), st.integers(0, 3)),
        min_size=1,
    )
)
def test_no_two_names_are_the_same(calls: list[tuple[str, int]]) -> None:
    labels = np.unique([label for _, label in calls], return_inverse=True)[1]
    found = names([text for text, _ in calls], labels)
    assert len(set(found)) == len(found) == len(set(labels.tolist()))
    assert all(found)


def test_examples_are_the_nearest_to_the_centre() -> None:
    vectors = np.array([[1, 0], [0.6, 0.8], [0.8, 0.6], [0, 1]], dtype=np.float32)
    centres = np.array([[1, 0], [0, 1]], dtype=np.float32)
    assert examples(vectors, np.array([0, 0, 0, 1]), centres, 2) == [[0, 2], [3]]
