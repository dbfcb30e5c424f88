from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from residency.engines.decoding import Stops, Wishes, likeliest, log_softmax, scores

SOME = np.array([1.0, 3.0, 2.0, -1.0], np.float32)
NOTHING = np.zeros(4, np.float32)


def chosen(written: np.ndarray = NOTHING, seed: int = 0, **wishes: object) -> int:
    chance = np.random.default_rng(seed)
    return int(scores(SOME, Wishes.model_validate(wishes), written, chance).argmax())


def test_without_temperature_the_likeliest_is_next_whatever_the_seed() -> None:
    assert {chosen(seed=seed, temperature=0, top_p=0.1) for seed in range(20)} == {1}


def test_bias_and_penalties_move_the_choice() -> None:
    assert chosen(temperature=0, logit_bias={"3": 100, "999": 100}) == 3
    written = np.array([0, 2, 0, 0], np.float32)
    assert chosen(written, temperature=0, frequency_penalty=0.4) == 1
    assert chosen(written, temperature=0, frequency_penalty=0.6) == 2
    assert chosen(written, temperature=0, presence_penalty=1.2) == 2


def test_samples_have_the_models_probabilities() -> None:
    drawn = np.bincount([chosen(seed=seed) for seed in range(4000)], minlength=4) / 4000
    assert np.abs(drawn - np.exp(log_softmax(SOME))).max() < 0.03


def test_the_nucleus_has_what_is_asked_for_and_never_nothing() -> None:
    assert {chosen(seed=seed, top_p=0.7) for seed in range(100)} == {1, 2}
    assert {chosen(seed=seed, top_p=0.0) for seed in range(20)} == {1}


def test_the_same_seed_gives_the_same_token() -> None:
    assert [chosen(seed=5) for _ in range(5)] == [chosen(seed=5)] * 5


@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40), st.integers(0, 50))
def test_likeliest_are_the_highest_in_order(values: list[float], count: int) -> None:
    logprobs = log_softmax(np.array(values, np.float32))
    found = likeliest(logprobs, count)
    assert len(set(found)) == len(found) == min(count, len(values))
    assert [logprobs[i] for i in found] == sorted(logprobs, reverse=True)[: len(found)]
    assert np.exp(logprobs).sum() == pytest.approx(1, abs=1e-4)


def said(pieces: list[str], stops: list[str]) -> tuple[str, str]:
    cut, text = Stops(stops), ""
    for piece in pieces:
        text += cut.add(piece)
        if cut.found:
            return text, cut.found
    return text + cut.rest(), ""


@given(st.lists(st.text("ab", max_size=3), max_size=12), st.text("ab", min_size=1, max_size=4))
def test_a_stop_cuts_the_same_however_the_text_comes(pieces: list[str], stop: str) -> None:
    head, found, _ = "".join(pieces).partition(stop)
    assert said(pieces, [stop]) == (head, found)


@given(
    st.lists(st.text("abc", max_size=3), max_size=12),
    st.lists(st.text("abc", min_size=1, max_size=3), max_size=3),
)
def test_no_stop_is_ever_said(pieces: list[str], stops: list[str]) -> None:
    text, found = said(pieces, stops)
    assert "".join(pieces).startswith(text + found)
    assert not any(stop in text for stop in stops)


def test_an_empty_stop_ends_nothing() -> None:
    assert said(["a", "b"], [""]) == ("ab", "")


def test_chat_and_completions_ask_for_log_probabilities_each_in_its_way() -> None:
    def alternatives(**fields: object) -> int | None:
        return Wishes.model_validate(fields).alternatives

    assert alternatives() is None
    assert alternatives(logprobs=True, top_logprobs=3) == 3
    assert alternatives(logprobs=2) == 2
    assert alternatives(logprobs=0) == 0


def test_a_single_stop_may_be_a_text_and_nonsense_is_refused() -> None:
    assert Wishes.model_validate({"stop": "x", "unknown": 1}).stop == ["x"]
    with pytest.raises(ValidationError):
        Wishes.model_validate({"temperature": -1})
