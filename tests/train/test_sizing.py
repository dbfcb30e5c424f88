"""Shapes within a budget, counted against the model that transformers makes of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.errors import SettingsError
from residency.train.sizing import own_shape


@settings(max_examples=200)
@given(budget=st.integers(300_000, 2_000_000_000), vocabulary=st.integers(300, 1000))
def test_the_budget_is_never_passed_and_mostly_used(budget: int, vocabulary: int) -> None:
    shape = own_shape(budget, vocabulary)
    assert budget / 3 < shape.weights <= budget
    assert shape.layers >= 2
    assert shape.width % shape.heads == 0
    assert shape.heads % shape.kv_heads == 0


@pytest.mark.parametrize("budget", [2_000_000, 5_000_000, 30_000_000, 135_000_000])
def test_k_quants_fit(budget: int) -> None:
    shape = own_shape(budget, 1024)
    assert shape.width % 256 == shape.hidden % 256 == 0


def test_the_count_is_that_of_the_model() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = own_shape(1_500_000, 512)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        tie_word_embeddings=True,
    )
    assert LlamaForCausalLM(config).num_parameters() == shape.weights


def test_a_vocabulary_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(SettingsError, match="too few for a vocabulary of 16,000 tokens"):
        own_shape(1_000_000, 16_000)
