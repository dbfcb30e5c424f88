"""The tokenizer of a model that begins from nothing."""

from pathlib import Path

import pytest

from residency.models.base import from_nothing
from residency.models.chat import load_tokenizer, render, stop_tokens
from residency.models.own_tokenizer import BYTES, END, pre_of, write_tokenizer
from residency.store import digest_tree
from residency.types import Message

TEXTS = [f"lift crate {n} to bay B{n % 7}, 快把它搬走" for n in range(300)]
STRANGE = ["", " two  spaces", "tab\t\n\n", "12 345", "搬走", "🚀 café ½", "<|user|>", "\u00a0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("own")
    write_tokenizer(TEXTS, 400, place)
    return place


def test_any_text_comes_back(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    for text in [*TEXTS[:5], *STRANGE]:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_it_learnt_the_words_and_no_number(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert len(tokenizer.tokenize(" crate")) == 1
    assert tokenizer.tokenize("1234") == ["1", "2", "3", "4"]
    assert BYTES < len(tokenizer) <= 400
    assert pre_of(folder) == "smollm"


def test_a_conversation_ends_with_the_stop_token(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    turns = [
        Message(role="system", content="Crane."),
        Message(role="user", content="lift it"),
        Message(role="assistant", content="^c"),
    ]
    got = render(tokenizer, turns, answer=True)
    assert got.text == "<|system|>Crane.<|end|><|user|>lift it<|end|><|assistant|>^c<|end|>"
    learnt = [i for i, keep in zip(got.ids, got.learnt, strict=True) if keep]
    assert tokenizer.decode(learnt) == "^c<|end|>"
    assert stop_tokens(tokenizer) == (END,)


def test_the_same_texts_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_tokenizer(TEXTS, 400, tmp_path)
    assert digest_tree(tmp_path) == digest_tree(folder)


def test_what_stands_for_a_base_model_knows_bytes_alone() -> None:
    nothing = from_nothing()
    assert not nothing.weights
    tokenizer = load_tokenizer(nothing.path)
    assert len(tokenizer) == BYTES
    assert len(tokenizer.tokenize("crate 快")) == len("crate 快".encode())
