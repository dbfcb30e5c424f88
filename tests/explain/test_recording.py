"""What is recorded is what transformers itself says, for every architecture."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from transformers.activations import ACT2FN

from residency.explain import anatomy, inside, recording
from residency.explain.recording import Recording
from tests.explain.shapes import SHAPES, make

IDS = list(range(40, 51))
FUSED = ("phi3",)


@pytest.fixture(params=SHAPES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def recorded(kind: str) -> tuple[Any, anatomy.Anatomy, Recording]:
    model = make(kind)
    parts = anatomy.find(model)
    return model, parts, recording.record(model, parts, IDS)


def test_attention_states_and_logits_are_transformers_own(kind: str) -> None:
    _, _, seen = recorded(kind)
    plain = make(kind, "eager")
    with torch.no_grad():
        own = plain(torch.tensor([IDS]), output_attentions=True, output_hidden_states=True)
    for layer, weights in zip(seen.layers, own.attentions, strict=True):
        torch.testing.assert_close(layer.weights, weights[0])
    for state, right in zip(seen.states, own.hidden_states[:-1], strict=False):
        torch.testing.assert_close(state, right[0])
    # Theirs is after the final norm.
    final = anatomy.find(plain).final_norm
    assert final is not None
    torch.testing.assert_close(final(seen.states[-1]), own.hidden_states[-1][0])
    torch.testing.assert_close(seen.logits, own.logits[0])


def test_a_softmax_over_our_scores_is_the_attention(kind: str) -> None:
    _, _, seen = recorded(kind)
    found = inside.attention(seen)
    assert found is not None
    softmax = torch.tensor(found.scores).softmax(dim=-1)
    torch.testing.assert_close(softmax, torch.tensor(found.weights), atol=1e-5, rtol=1e-4)
    assert (found.scores[:, :, 0, 1:] == float("-inf")).all()
    assert any(found.window) == (kind in ("mistral", "phi3", "gemma2", "gemma3_text"))


def test_keys_turn_as_the_models_own_function_turns_them(kind: str) -> None:
    model, parts, seen = recorded(kind)
    found = inside.rotation(seen, parts.halves)
    assert found is not None
    for number, layer in enumerate(model.model.layers):
        kept: dict[str, Any] = {}
        attention = layer.self_attn
        last = getattr(attention, "k_norm", None) or getattr(attention, "k_layernorm", None)
        source = last or getattr(attention, "qkv_proj", None) or attention.k_proj
        with source.register_forward_hook(lambda _, __, made, kept=kept: kept.update(key=made)):
            recording.record(model, parts, IDS)
        width = found.dimensions
        if kind in FUSED:
            kept["key"] = kept["key"][..., 4 * width : 6 * width]
        before = kept["key"].detach()
        if before.shape[1] != 2:  # Gemma 3 has put the heads before the tokens already
            before = before.reshape(1, len(IDS), 2, width).transpose(1, 2)
        part, rest = before[..., : found.rotated], before[..., found.rotated :]
        cos, sin = seen.layers[number].cos, seen.layers[number].sin
        turn = sys.modules[type(model).__module__].apply_rotary_pos_emb
        after = torch.cat([turn(part, part, cos[None], sin[None])[1], rest], dim=-1)[0]
        shown = [(p, p + found.rotated // 2) for p in found.pairs]
        torch.testing.assert_close(torch.tensor(found.keys[number]), after[..., shown])
        # What the page does to show them as they were: turning back by position x frequency.
        angle = torch.arange(len(IDS))[:, None] * torch.tensor(
            found.frequencies[found.kind[number]][list(found.pairs)]
        )
        x, y = torch.tensor(found.keys[number]).unbind(-1)
        back = torch.stack(
            [x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()], dim=-1
        )
        torch.testing.assert_close(back, before[0][..., shown], atol=1e-4, rtol=1e-4)


def test_frequencies_are_the_models_own(kind: str) -> None:
    model, parts, seen = recorded(kind)
    found = inside.rotation(seen, parts.halves)
    assert found is not None
    own = [b for n, b in model.model.rotary_emb.named_buffers() if n.endswith("inv_freq")]
    for row in found.frequencies:
        assert any(torch.allclose(torch.tensor(row), b, rtol=1e-4, atol=1e-7) for b in own)
    assert len(found.frequencies) == (2 if kind == "gemma3_text" else 1)


def test_neurons_are_what_the_feed_forward_makes_of_them(kind: str) -> None:
    model, _, seen = recorded(kind)
    found = inside.firing(seen)
    assert found is not None
    config = model.config
    act = ACT2FN[getattr(config, "hidden_activation", None) or config.hidden_act]
    up = torch.tensor(found.up)
    made = act(up) if found.gate is None else act(torch.tensor(found.gate)) * up
    torch.testing.assert_close(made, torch.tensor(found.fired), atol=1e-5, rtol=1e-4)
    assert (found.gate is None) == (kind == "phi")
    assert found.hidden == config.intermediate_size


def test_norms_are_before_attention(kind: str) -> None:
    model, parts, seen = recorded(kind)
    found = inside.norms(seen, "norm")
    assert found is not None
    for number, layer in enumerate(model.model.layers):
        state = seen.states[number]
        torch.testing.assert_close(torch.tensor(found.before[number]), state[:, : inside.SHOWN])
        after = layer.input_layernorm(state).detach()
        torch.testing.assert_close(torch.tensor(found.after[number]), after[:, : inside.SHOWN])
        size = after.square().mean(dim=-1).sqrt()
        torch.testing.assert_close(torch.tensor(found.size_after[number]), size)
    assert parts.final_norm is model.get_submodule("model").norm if kind != "phi" else True


def test_hooks_are_gone_afterwards() -> None:
    model, _, _ = recorded("llama")
    assert not any(
        module._forward_pre_hooks
        for module in model.modules()
        if "Attention" in type(module).__name__
    )
