from __future__ import annotations

import numpy as np
import pytest
import torch

from residency.errors import InputError
from residency.explain import anatomy, recording
from residency.explain.explanation import Explanation, explain, limit
from residency.explain.model import Opened
from residency.explain.pieces import words
from residency.explain.readout import Readout
from residency.explain.sharing import compare
from residency.models.base import BaseModel
from tests.explain import shapes
from tests.explain.shapes import SHAPES, TEXT


def direct(opened: Opened, ids: list[int]) -> torch.Tensor:
    """The logits after the last token, as transformers' eager attention gives them."""
    model = shapes.make(opened.name, "eager")
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1]


@pytest.mark.parametrize("kind", SHAPES)
def test_nothing_is_missing_of_what_must_work(kind: str, base: BaseModel) -> None:
    opened = shapes.opened(kind, base.path)
    found = explain(opened, TEXT)
    assert not found.missing
    ids = opened.tokenizer(TEXT)["input_ids"]
    torch.testing.assert_close(torch.tensor(found.logits), direct(opened, ids))


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        ("gpt_neox", {"firing"}),
        ("mixtral", {"firing"}),
        ("olmo2", {"norms"}),
        ("cohere", {"rotation", "lens"}),
    ],
)
def test_other_architectures_say_what_cannot_be_shown(
    kind: str, missing: set[str], base: BaseModel
) -> None:
    found = explain(shapes.opened(kind, base.path), TEXT)
    assert set(found.missing) == missing
    assert all(getattr(found, name) is None for name in missing)


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_the_lens_reads_states_as_the_model_reads_its_last(kind: str, base: BaseModel) -> None:
    opened = shapes.opened(kind, base.path)
    found = explain(opened, TEXT)
    assert found.lens is not None
    model, ids = opened.model, opened.tokenizer(TEXT)["input_ids"]
    with torch.no_grad():
        states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
    for number, state in enumerate(states):
        # The last one has been through the norm already.
        normed = state[0] if number == len(states) - 1 else model.model.norm(state[0])
        logits = model.lm_head(normed)
        if cap := getattr(model.config, "final_logit_softcapping", None):
            logits = torch.tanh(logits / cap) * cap
        best = logits.softmax(dim=-1).topk(5)
        assert found.lens.ids[number].tolist() == best.indices.tolist()
        torch.testing.assert_close(torch.tensor(found.lens.shares[number]), best.values)
    assert found.lens.ids[-1, -1, 0] == found.answer


def test_a_readout_that_is_not_the_models_is_found_out(llama: Opened) -> None:
    parts = anatomy.find(llama.model)
    seen = recording.record(llama.model, parts, [40, 41, 42])
    readout = Readout(llama.model, parts)
    assert readout.holds(seen)
    assert seen.logits is not None
    seen.logits *= 1.5
    assert not readout.holds(seen)


def test_leaving_a_word_out_is_asking_without_it(llama: Opened, explained: Explanation) -> None:
    ids = llama.tokenizer(TEXT)["input_ids"]
    before = direct(llama, ids).log_softmax(dim=-1)
    spans = words(explained.pieces)
    assert [(e.start, e.end) for e in explained.effects] == list(spans)
    assert len({end - start for start, end in spans}) == 1
    for effect in explained.effects:
        after = direct(llama, [*ids[: effect.start], *ids[effect.end :]]).log_softmax(dim=-1)
        assert effect.share == pytest.approx(float(after[explained.answer].exp()), rel=1e-3)
        assert effect.instead == int(after.argmax())
        bits = (before[explained.answer] - after[explained.answer]) / np.log(2)
        assert effect.bits == pytest.approx(float(bits), abs=1e-3)


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma3_text"])  # two with short windows
def test_words_of_several_tokens_are_left_out_whole(kind: str, base: BaseModel) -> None:
    opened = shapes.opened(kind, base.path)
    text = "我去银行取 unbelievableness 钱"
    found = explain(opened, text)
    ids = opened.tokenizer(text)["input_ids"]
    assert len({e.end - e.start for e in found.effects}) > 1
    for effect in found.effects:
        after = direct(opened, [*ids[: effect.start], *ids[effect.end :]]).softmax(dim=-1)
        assert effect.share == pytest.approx(float(after[found.answer]), rel=1e-3)


def test_embeddings_are_rows_of_the_matrix(llama: Opened, explained: Explanation) -> None:
    matrix = llama.model.get_input_embeddings().weight.detach()
    ids = [piece.id for piece in explained.pieces]
    first = torch.tensor(explained.embeddings.first)
    torch.testing.assert_close(first, matrix[ids, : first.shape[1]])
    near, cosine = explained.embeddings.near, explained.embeddings.cosine
    alike = torch.cosine_similarity(matrix[ids[2]][None], matrix, dim=-1)
    alike[ids[2]] = -1
    assert near[2].tolist() == alike.topk(near.shape[1]).indices.tolist()
    assert cosine[2, 0] == pytest.approx(float(alike.max()), abs=1e-5)


def test_a_word_that_is_there_twice_moves_apart(llama: Opened, explained: Explanation) -> None:
    (twins,) = explained.twins
    assert [explained.pieces[n].text for n in (twins.one, twins.other)] == [" bank", " bank"]
    seen = recording.record(
        llama.model, anatomy.find(llama.model), llama.tokenizer(TEXT)["input_ids"]
    )
    right = [
        float(torch.cosine_similarity(s[twins.one], s[twins.other], dim=0)) for s in seen.states
    ]
    assert twins.cosine == pytest.approx(right, abs=1e-5)
    assert twins.cosine[0] == pytest.approx(1)
    assert twins.cosine[-1] < 0.999


def test_sharing_is_what_the_cache_of_the_model_takes(llama: Opened) -> None:
    with torch.no_grad():
        cache = llama.model(torch.tensor([[40, 41, 42, 43]]), use_cache=True).past_key_values
    kept = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    mha, gqa, mqa = compare(llama.shape)
    assert gqa.a_token == kept * 2 / 4  # 16 bits, 4 tokens
    assert (mha.key_heads, gqa.key_heads, mqa.key_heads) == (4, 2, 1)
    assert (mha.a_token, mqa.a_token) == (2 * gqa.a_token, gqa.a_token / 2)
    assert [one.own for one in (mha, gqa, mqa)] == [False, True, False]


@pytest.mark.parametrize("text", ["one", "many words " * 80])
def test_a_text_that_cannot_be_shown_is_refused_with_its_size(llama: Opened, text: str) -> None:
    count = len(llama.tokenizer(text)["input_ids"])
    with pytest.raises(InputError, match=f"a text of {count} tokens; from 3 to"):
        explain(llama, text)


def test_large_models_read_less() -> None:
    assert limit(30, 9) == 96
    assert limit(32, 32) == 62
