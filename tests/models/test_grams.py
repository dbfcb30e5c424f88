from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.models.encoder import WIDTH
from residency.models.grams import Vectors, blended


def alike(*texts: str) -> float:
    """The cosine of two texts of which the encoder knows nothing that tells them apart."""
    one, other = blended(texts, vectors(len(texts)))
    return float(one @ other)


def vectors(count: int) -> Vectors:
    return np.full((count, WIDTH), WIDTH**-0.5, dtype=np.float32)


def test_what_has_the_same_characters_is_nearer() -> None:
    asked = "我要查询账户余额"
    assert alike(asked, "账户余额是多少") > alike(asked, "银行卡丢了怎么挂失") + 0.2
    assert alike("トイレはどこ", "トイレ") > alike("トイレはどこ", "駅まで") + 0.2


def test_it_counts_by_its_share_of_the_words() -> None:
    apart = [alike(*(f"{words} {han}" for han in ("余额", "挂失"))) for words in ("", "a", "a b c")]
    assert apart == sorted(apart)
    assert apart[0] == pytest.approx(0.15, abs=0.2)


@given(st.lists(st.text(st.characters(max_codepoint=0x1FFF))))
def test_scripts_with_spaces_keep_their_vectors(texts: list[str]) -> None:
    before = vectors(len(texts))
    assert np.array_equal(blended(texts, before), before)


@given(st.text(st.sampled_from("我要的a 1，ト"), max_size=40))
def test_length_stays_1(text: str) -> None:
    assert np.linalg.norm(blended([text], vectors(1))) == pytest.approx(1, abs=1e-5)
