"""Tiny random models of the architectures that people use, with SmolLM2's tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from residency.explain import recording
from residency.explain.model import Opened
from residency.models.chat import load_tokenizer
from residency.models.shape import from_config

VOCABULARY = 49152
TEXT = "The river bank was wet, so the bank"
# The first four are named in what must work; of the rest each has something of its own.
SHAPES = (
    "llama", "mistral", "qwen2", "phi3", "gemma2", "gemma3_text", "qwen3", "phi", "gemma",
)  # fmt: skip
_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "vocab_size": VOCABULARY,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "initializer_range": 0.2,
}
_OWN: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 4},
    "phi3": {"sliding_window": 5},
    "gemma": {"head_dim": 16},
    "gemma2": {"head_dim": 16, "sliding_window": 4, "query_pre_attn_scalar": 24},
    "gemma3_text": {
        "head_dim": 16,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "qwen3": {"head_dim": 32},
    "mixtral": {"num_local_experts": 4},
}


def make(kind: str, implementation: str = recording.IMPLEMENTATION) -> Any:
    """The model of `kind`; the same weights each time."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    recording.register()
    torch.manual_seed(3)
    config = AutoConfig.for_model(kind, **_SIZES, **_OWN.get(kind, {}))
    model = AutoModelForCausalLM.from_config(config, attn_implementation=implementation).eval()
    for parameter in model.parameters():  # biases and norms begin as constants
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def opened(kind: str, tokenizer_from: Path) -> Opened:
    model = make(kind)
    return Opened(
        name=kind,
        model=model,
        tokenizer=load_tokenizer(tokenizer_from),
        shape=from_config(model.config.to_dict(), kind),
        importing=0.0,
        loading=0.0,
    )
