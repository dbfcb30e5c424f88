"""What a model needs, against published files and the figures that the source material gives."""

import json
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.errors import ModelError
from residency.models import carried
from residency.models.base import resolve
from residency.models.formats import GGUF, bits_a_weight, sizes
from residency.models.memory import ONE_SEQUENCE, Step, cache_a_token, need, training
from residency.models.shape import Shape, from_config, from_weights, read_shape, typical
from residency.train import batch

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


QLORA = Step(method="qlora", rank=16, rows=2, length=512, precision="bfloat16", checkpointed=True)
FULL = Step(method="full", rank=16, rows=1, length=1, precision="float32")


def test_qlora_holds_7b_in_the_five_gigabytes_that_are_claimed() -> None:
    assert 4.0e9 < training(mistral(), QLORA).weights < 5.0e9


def test_qlora_unpacks_one_layer_at_a_time() -> None:
    sizes = {part.name: part.size for part in training(mistral(), QLORA).parts}
    assert sizes["unpacked"] == 4096 * 14336 * 2
    assert not any(p.size for p in training(mistral(), FULL).parts if p.name == "unpacked")


def test_the_claim_of_14_gigabytes_for_training_is_generous() -> None:
    """5 + 3 + 4 + 2 for QLoRA of 7B at batch 2 and 512 tokens; the parts come to half."""
    assert 5e9 < training(mistral(), QLORA).total < 8e9


def test_full_training_in_float32_takes_sixteen_bytes_a_weight_and_more() -> None:
    shape = from_weights(7_000_000_000)
    assert 16 * shape.weights < training(shape, FULL).total < 16 * shape.weights + 1e9


def test_activations_take_the_room_of_gradients_unless_steps_are_accumulated() -> None:
    shape, step = from_weights(135_000_000), replace(FULL, length=64)
    beyond = training(shape, step).parts[3]
    both = training(shape, replace(step, accumulation=2)).parts[3]
    gradients = training(shape, step).parts[1]
    assert (beyond.name, gradients.name) == ("activations", "gradients")
    assert beyond.size == max(0, both.size - gradients.size)


def test_attention_within_a_sequence_is_that_of_the_batches() -> None:
    assert ONE_SEQUENCE == batch._ONE_SEQUENCE
    assert replace(FULL, rows=4, length=256).sequence == 4 * 256
    assert replace(FULL, rows=4, length=257).sequence == 257


@given(
    method=st.sampled_from(["lora", "qlora", "full"]),
    rows=st.integers(1, 16),
    length=st.integers(1, 4096),
    rank=st.integers(1, 64),
    checkpointed=st.booleans(),
)
def test_a_heavier_step_never_needs_less(method, rows, length, rank, checkpointed) -> None:
    shape = from_weights(135_000_000)
    step = Step(
        method=method,
        rank=rank,
        rows=rows,
        length=length,
        precision="float32",
        checkpointed=checkpointed,
    )
    here = training(shape, step).total
    for more in ({"accumulation": 2}, {"rank": rank + 1}, {"checkpointed": False}):
        assert training(shape, replace(step, **more)).total >= here
    if step.sequence == step.tokens:  # else a longer row may split what was one sequence
        assert training(shape, replace(step, learnt=1.0)).total >= here


@pytest.mark.parametrize(
    ("kv_heads", "word"), [(32, "MHA: each of 32"), (8, "GQA: 32 heads share 8"), (1, "MQA: 32")]
)
def test_attention_is_named_from_the_config(kv_heads: int, word: str) -> None:
    shape = from_config({**LLAMA_2_7B, "num_key_value_heads": kv_heads}, "x")
    assert shape.attention.startswith(word)


@pytest.mark.parametrize(
    ("more", "windowed"),
    [
        ({"sliding_window": 4096}, 0),  # Mistral's first version: llama.cpp has no window for it
        ({"sliding_window": 4096, "use_sliding_window": False, "model_type": "gemma3_text"}, 0),
        ({"sliding_window": 4096, "model_type": "gemma2"}, 16),
        ({"sliding_window": 4096, "sliding_window_pattern": 4, "model_type": "cohere2"}, 24),
    ],
)
def test_windows_are_those_that_layers_have(more: dict[str, object], windowed: int) -> None:
    shape = from_config({**MISTRAL, **more}, "x")
    assert (shape.windowed, shape.window) == (windowed, 4096 if windowed else 0)
    assert ("tokens only" in shape.attention) == (windowed > 0)


def test_gemmas_further_norms_keep_their_inputs_too() -> None:
    """Two more over the hidden state, and one each over the heads' queries and keys."""
    config = {**MISTRAL, "head_dim": 128}
    plain, gemma = (
        from_config({**config, "model_type": kind}, "x") for kind in ("", "gemma3_text")
    )
    step = replace(QLORA, checkpointed=False)
    more = training(gemma, step).parts[4].size - training(plain, step).parts[4].size
    assert more == step.tokens * 32 * 4 * (2 * 4096 + 128 * 32 + 128 * 8)


def test_windows_are_copied_twice_for_each_answer_at_once() -> None:
    """Seen in llama.cpp's log for Gemma 3 270M: two checkpoints of 7.5 MiB each."""
    gemma = read_shape("gemma-3-270m")
    sizes = {p.name: p.size for p in need(gemma, level="f16", context=2048, slots=4).parts}
    assert sizes["checkpoints"] == 4 * 2 * 7.5 * 2**20
    small = need(mistral(), level="f16", context=2048, slots=4)
    assert not any(part.size for part in small.parts if part.name == "checkpoints")


def test_all_forms_of_the_weights_are_told() -> None:
    found = sizes(mistral())
    assert set(found) == {*GGUF, "onnx-int4", "nf4"}
    assert found["Q4_K_M"] > found["nf4"] > found["Q2_K"]


def test_the_size_for_onnx_is_that_of_its_builder() -> None:
    """113,627,597 bytes are what onnxruntime-genai 0.18 wrote of it, with tables of positions."""
    found = sizes(read_shape("SmolLM2-135M-Instruct"))["onnx-int4"]
    assert found == pytest.approx(113_627_597, rel=0.03)


def test_a_sliding_window_bounds_the_cache() -> None:
    config = {**MISTRAL, "sliding_window": 512}
    kinds = ["sliding_attention"] * 24 + ["full_attention"] * 8
    windowed = from_config({**config, "layer_types": kinds}, "windowed")
    whole = need(mistral(), level="f16", context=8192, slots=2).cache
    assert need(windowed, level="f16", context=8192, slots=2).cache == whole // 4 + whole * 3 // 32


@given(
    level=st.sampled_from(GGUF),
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
    levels = ("f16", "Q8_0", "Q5_K_M", "Q4_K_M", "Q2_K")
    bits = [bits_a_weight(shape, level) for level in levels]
    assert bits == sorted(bits, reverse=True)


def test_a_carried_model_and_its_folder_have_one_shape() -> None:
    name = "SmolLM2-135M-Instruct"
    by_file, by_folder = read_shape(name), read_shape(str(resolve(name).path))
    assert by_file.weights == by_folder.weights == 134_515_008
    for level in GGUF:
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
