"""What a model needs, against published files and the figures that the source material gives."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.errors import ModelError
from residency.models import carried
from residency.models.base import resolve
from residency.models.memory import LEVELS, bits_a_weight, cache_a_token, need, training
from residency.models.shape import Shape, from_config, from_weights, read_shape, typical

LLAMA_2_7B = {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 32000,
}
MISTRAL = {**LLAMA_2_7B, "num_key_value_heads": 8, "intermediate_size": 14336}


def mistral() -> Shape:
    return from_config(MISTRAL, "Mistral-7B")


def test_the_weights_of_known_models_are_counted() -> None:
    assert mistral().weights == 7_241_732_096
    assert from_config(LLAMA_2_7B, "Llama-2-7B").weights == 6_738_415_616


@pytest.mark.parametrize(
    ("level", "size"), [("Q4_K_M", 4.37e9), ("Q5_K_M", 5.13e9), ("Q8_0", 7.70e9), ("f16", 14.48e9)]
)
def test_sizes_are_those_of_mistrals_published_files(level: str, size: float) -> None:
    assert need(mistral(), level=level, context=1, slots=1).weights == pytest.approx(size, rel=0.01)


def test_the_claims_on_file_sizes_hold_in_binary_gigabytes() -> None:
    """4.1, 4.8 and 7.2 GB for Q4_K_M, Q5_K_M and Q8_0: right within 1% as GiB, 7% low as GB."""
    for level, claimed in (("Q4_K_M", 4.1), ("Q5_K_M", 4.8), ("Q8_0", 7.2)):
        gibibytes = need(mistral(), level=level, context=1, slots=1).weights / 2**30
        assert gibibytes == pytest.approx(claimed, rel=0.01)


def test_half_a_megabyte_a_token_holds_without_grouped_queries() -> None:
    """The claim for a 7B: true of Llama 2; Mistral, whose queries are grouped, takes a quarter."""
    assert cache_a_token(from_config(LLAMA_2_7B, "Llama-2-7B")) == 512 * 1024
    assert cache_a_token(mistral()) == 128 * 1024


def test_qlora_holds_7b_in_the_five_gigabytes_that_are_claimed() -> None:
    step = training(mistral(), method="qlora", rank=16, tokens=2 * 512, precision="bfloat16")
    assert 4.0e9 < step.weights < 5.0e9


def test_the_claim_of_14_gigabytes_for_training_is_generous() -> None:
    """5 + 3 + 4 + 2 for QLoRA of 7B at batch 2 and 512 tokens; the parts come to less than half."""
    step = training(mistral(), method="qlora", rank=16, tokens=2 * 512, precision="bfloat16")
    assert 5e9 < step.total < 7e9


def test_full_training_in_float32_takes_sixteen_bytes_a_weight_and_more() -> None:
    shape = from_weights(7_000_000_000)
    step = training(shape, method="full", rank=16, tokens=1, precision="float32")
    assert 16 * shape.weights < step.total < 16 * shape.weights + 1e9


def test_a_sliding_window_bounds_the_cache() -> None:
    config = {**MISTRAL, "sliding_window": 512}
    kinds = ["sliding_attention"] * 24 + ["full_attention"] * 8
    windowed = from_config({**config, "layer_types": kinds}, "windowed")
    whole = need(mistral(), level="f16", context=8192, slots=2).cache
    assert need(windowed, level="f16", context=8192, slots=2).cache == whole // 4 + whole * 3 // 32


@given(
    level=st.sampled_from(LEVELS),
    weights=st.integers(1_000_000, 100_000_000_000),
    context=st.integers(1, 100_000),
    slots=st.integers(1, 64),
)
def test_more_never_needs_less(level: str, weights: int, context: int, slots: int) -> None:
    shape = from_weights(weights)
    here = need(shape, level=level, context=context, slots=slots)
    assert here.total == here.weights + here.cache + here.compute
    assert need(shape, level=level, context=context + 1, slots=slots).total > here.total
    assert need(shape, level=level, context=context, slots=slots + 1).total > here.total


@pytest.mark.parametrize("shape", typical(), ids=lambda s: s.source)
def test_a_lower_level_is_smaller(shape: Shape) -> None:
    bits = [bits_a_weight(shape, level) for level in LEVELS]
    assert bits == sorted(bits, reverse=True)


def test_a_carried_model_and_its_folder_have_one_shape() -> None:
    name = "SmolLM2-135M-Instruct"
    by_file, by_folder = read_shape(name), read_shape(str(resolve(name).path))
    assert by_file.weights == by_folder.weights == 134_515_008
    for level in LEVELS:
        assert bits_a_weight(by_file, level) == bits_a_weight(by_folder, level)


def test_a_gguf_file_is_as_large_as_it_is() -> None:
    path = carried.gguf("SmolLM2-135M-Instruct")
    found = need(read_shape(str(path)), level="", context=512, slots=1)
    assert found.weights == path.stat().st_size
    assert found.parts[0].basis == "measured"


def test_a_size_is_the_shape_of_the_nearest_model_and_says_so() -> None:
    shape = read_shape("7B")
    assert (shape.weights, shape.basis) == (7_000_000_000, "estimated")
    assert "shaped like Mistral-7B" in shape.source
    assert read_shape("135m").layers == 30


def test_what_is_no_model_is_refused(tmp_path) -> None:
    with pytest.raises(ModelError, match="unknown model 'nope'"):
        read_shape("nope")
    with pytest.raises(ModelError, match="no weights"):
        read_shape("0B")
    with pytest.raises(ModelError, match=r"config\.json"):
        read_shape(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 5}))
    with pytest.raises(ModelError, match="no usable shape"):
        read_shape(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(MISTRAL))
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", 100) + b"{")
    with pytest.raises(ModelError, match="damaged safetensors"):
        read_shape(str(tmp_path))
