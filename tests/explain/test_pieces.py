from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from residency.explain.pieces import Piece, Reader, spelt, words
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer


@pytest.fixture(scope="module")
def smollm(base: BaseModel) -> Any:
    return load_tokenizer(base.path)


@pytest.fixture
def sentencepiece(tmp_path: Path) -> Any:
    """A tokenizer with SentencePiece's ways: ▁ for a space, <0x..> for a byte without a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = ["<s>", "▁", "a", "b", "▁a", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    made = Tokenizer(models.BPE(vocabulary, [("▁", "a")], byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>")


def read(tokenizer: Any, text: str) -> tuple[Piece, ...]:
    return Reader(tokenizer).pieces(tokenizer(text)["input_ids"])


@pytest.mark.parametrize(
    "text", ["The animal didn't cross", "我去银行取钱。", "naïve 😀\n\tx", "🏦"]
)
def test_pieces_say_the_whole_text(smollm: Any, text: str) -> None:
    pieces = read(smollm, text)
    assert spelt(pieces) == text


def test_parts_of_a_character_know_it(smollm: Any) -> None:
    pieces = read(smollm, "银")
    assert len(pieces) > 1
    assert {p.of for p in pieces} == {"银"}
    assert all(p.text == "" for p in pieces)
    assert " ".join(p.bytes for p in pieces) == "银".encode().hex(" ")


def test_a_character_that_is_cut_off_is_bytes_alone(smollm: Any) -> None:
    ids = smollm("银")["input_ids"][:-1]
    assert [p.of for p in Reader(smollm).pieces(ids)] == [""] * len(ids)


def test_sentencepiece_spaces_and_bytes(sentencepiece: Any) -> None:
    pieces = read(sentencepiece, "a 银b")
    assert [p.text for p in pieces if p.text] == [" a", " ", "b"]
    assert [p.of for p in pieces if p.bytes] == ["银"] * 3


def test_special_tokens_and_unused_ids(smollm: Any) -> None:
    special = Reader(smollm).piece(smollm.eos_token_id)
    assert special.special
    assert special.text == smollm.eos_token
    assert Reader(smollm).piece(10**6).special


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It didn't cross, naïve one", ["It", " didn't", " cross", ",", " naïve", " one"]),
        ("我去银银行", ["我", "去", "银", "银", "行"]),
        ("a  b\nc", ["a", " ", " b", "\n", "c"]),
    ],
)  # fmt: skip
def test_words(smollm: Any, text: str, expected: list[str]) -> None:
    pieces = read(smollm, text)
    found = []
    for start, end in words(pieces):
        found.append(spelt(pieces[start:end]))
    assert "".join(found) == text
    assert found == expected


def test_special_tokens_are_in_no_word() -> None:
    pieces = (
        Piece(id=0, text="<s>", special=True),
        Piece(id=1, text="a"),
        Piece(id=2, text="b"),
        Piece(id=0, text="</s>", special=True),
        Piece(id=3, text="c"),
    )
    assert words(pieces) == ((1, 3), (4, 5))
