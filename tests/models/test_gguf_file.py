from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from residency.errors import ModelError
from residency.models.gguf_file import dequantize, read_header


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A GGUF with all kinds of fields, of an architecture that nobody knows."""
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    path = tmp_path / "small.gguf"
    writer = GGUFWriter(str(path), "unheard-of")
    writer.add_chat_template("{{ messages }}")
    writer.add_token_list(["<pad>", "</s>", "<turn>", "é"])
    writer.add_token_scores([0.0, 1.0, 2.0, 3.0])
    writer.add_eos_token_id(1)
    writer.add_eot_token_id(2)
    writer.add_float32("unheard-of.scale", 0.5)
    writer.add_bool("unheard-of.flag", True)
    writer.add_tensor("plain", np.ones((3, 64), dtype=np.float32))
    packed = quantize(np.ones((2, 64), dtype=np.float32), GGMLQuantizationType.Q8_0)
    writer.add_tensor("packed", packed, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_header_has_what_the_gguf_package_wrote(small: Path) -> None:
    from gguf import GGUFReader

    header = read_header(small)
    assert header.architecture == "unheard-of"
    assert header.chat_template == "{{ messages }}"
    assert header.eos_token == "</s>"
    assert header.stop_tokens == ("</s>", "<turn>")
    assert header.tokens == 4
    assert header.metadata["unheard-of.scale"] == 0.5
    assert header.metadata["unheard-of.flag"] is True
    theirs = [
        (t.name, t.tensor_type.name, t.data_offset, t.n_bytes) for t in GGUFReader(small).tensors
    ]
    assert [(t.name, t.type, t.offset, t.size) for t in header.tensors] == theirs
    assert [t.shape for t in header.tensors] == [(64, 3), (64, 2)]


def test_the_carried_model(base_gguf: Path) -> None:
    header = read_header(base_gguf)
    assert header.architecture == "llama"
    assert header.stop_tokens == ("<|im_end|>",)
    assert header.tokens == 49152
    assert len(header.tensors) == 272
    assert "<|im_start|>" in header.chat_template


def test_a_file_cut_short_anywhere_is_an_error(small: Path) -> None:
    whole = small.read_bytes()
    assert len(whole) > 1000
    for size in range(8, len(whole) - 32, 37):
        small.write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r"damaged GGUF file: it (is cut short|ends inside)"):
            read_header(small)


def test_a_truncated_model_says_how_much_is_there(base_gguf: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    with base_gguf.open("rb") as file:
        cut.write_bytes(file.read(20_000_000))
    with pytest.raises(ModelError, match="cut short: 20,000,000 bytes of 98,362,432"):
        read_header(cut)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a GGUF file"),
        (b"<html>", "not a GGUF file"),
        (b"GGUF\x09\0\0\0" + b"\0" * 16, "version 9 is unknown"),
        (b"GGUF\x03\0\0\0" + b"\xff" * 64, "makes no sense"),
    ],
)
def test_what_is_no_gguf(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=words):
        read_header(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        read_header(tmp_path / "none.gguf")


def test_an_architecture_that_transformers_does_not_read(small: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="unheard-of"):
        dequantize(small, tmp_path / "out")
