from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from residency.export.imatrix import MAX_TOKENS, Imatrix, collect
from residency.export.merge import load
from residency.export.quantize import quantize
from residency.models.chat import load_tokenizer, render
from residency.models.gguf_file import read_header
from residency.models.gguf_weights import open_gguf
from tests.export.conftest import Exported
from tests.specialist import Specialist, conversations

WEIGHT = "blk.0.attn_q.weight"


@pytest.fixture(scope="module")
def model(specialist: Specialist) -> Any:
    return load(specialist.base.path)


def test_it_is_the_mean_square_of_a_layers_input(specialist: Specialist, model: Any) -> None:
    import torch

    tokenizer = load_tokenizer(specialist.base.path)
    found = collect(model, tokenizer, conversations(), "here")
    ids = [i for one in conversations() for i in render(tokenizer, one.messages, answer=True).ids]
    with torch.no_grad():
        inputs = model.model.layers[0].input_layernorm(model.model.embed_tokens(torch.tensor(ids)))
    expected = inputs.square().mean(0).numpy()
    assert found.tokens == len(ids)
    named = found.named("llama", 1)
    attention = [f"attn_{part}" for part in ("q", "k", "v", "output")]
    feed_forward = [f"ffn_{part}" for part in ("gate", "up", "down")]
    assert set(named) == {f"blk.0.{part}.weight" for part in (*attention, *feed_forward)}
    np.testing.assert_allclose(named[WEIGHT], expected, rtol=1e-5)
    assert len(named["blk.0.ffn_down.weight"]) == 512
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_it_stops_after_so_many_tokens(specialist: Specialist, model: Any) -> None:
    found = collect(model, load_tokenizer(specialist.base.path), conversations() * 100, "here")
    assert found.tokens == MAX_TOKENS
    assert found.conversations < 500
    assert found.note(7).startswith(f"importance matrix for 7 tensors, from {MAX_TOKENS:,} tokens")


@pytest.mark.slow
def test_columns_that_matter_come_out_better(exported: Exported, tmp_path: Path) -> None:
    from gguf import GGMLQuantizationType, dequantize

    source = open_gguf(exported.folder("f16") / "model.gguf")
    importance = np.ones(256, dtype=np.float32)
    importance[::8] = 1000
    means = {"model.layers.0.self_attn.q_proj": importance}
    imatrix = Imatrix(source="here", conversations=3, tokens=99, means=means)
    errors = []
    for given in (None, imatrix):
        path = tmp_path / "model.gguf"
        made = quantize(source, path, "Q2_K", given)
        before, after = (
            next(t for t in file.tensors if t.name == WEIGHT) for file in (source, open_gguf(path))
        )
        rounded = dequantize(after.data, GGMLQuantizationType[after.type])
        errors.append(((rounded - before.data.astype(np.float32))[:, ::8] ** 2).sum())
    assert errors[1] < 0.5 * errors[0]
    assert "1 tensors, from 99 tokens in 3 conversations of here" in made.notes()[1]
    fields = read_header(path).metadata
    told = {key: value for key, value in fields.items() if key.startswith("quantize.")}
    assert told == {
        "quantize.imatrix.dataset": "here",
        "quantize.imatrix.entries_count": 1,
        "quantize.imatrix.chunks_count": 3,
    }
