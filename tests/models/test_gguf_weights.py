"""A mapped file is what the gguf package says that it is, and comes back from the writer whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from residency.models.gguf_weights import open_gguf
from tests.planted import rewritten


def test_the_carried_model_as_the_gguf_package_reads_it(base_gguf: Path) -> None:
    from gguf import GGUFReader

    mine, theirs = open_gguf(base_gguf), GGUFReader(base_gguf)
    assert [(t.name, t.type, t.shape) for t in mine.tensors] == [
        (t.name, t.tensor_type.name, tuple(t.shape.tolist())) for t in theirs.tensors
    ]
    assert {t.type for t in mine.tensors} == {"F32", "Q4_1", "Q8_0"}
    for one, other in zip(mine.tensors, theirs.tensors, strict=True):
        assert one.data.dtype == other.data.dtype
        assert np.array_equal(one.data, other.data)
    named = {name: field for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert mine.fields.keys() == named.keys()
    for name, field in mine.fields.items():
        assert field.type == named[name].types[0]
        assert field.items == (named[name].types[-1] if len(named[name].types) > 1 else None)
        assert decoded(field.value) == named[name].contents()


def decoded(value: object) -> object:
    if isinstance(value, tuple):
        return [decoded(one) for one in value]
    return value.decode() if isinstance(value, bytes) else value


def test_written_again_it_is_the_same_file(base_gguf: Path, tmp_path: Path) -> None:
    again = rewritten(base_gguf, tmp_path / "again.gguf", lambda writer: None)
    assert again.read_bytes() == base_gguf.read_bytes()


def test_bytes_that_are_no_text_are_copied_as_they_are(tmp_path: Path) -> None:
    """Some tokens are parts of characters, and some files hold their bytes."""
    from gguf import GGUFWriter

    first, second = tmp_path / "first.gguf", tmp_path / "second.gguf"
    writer = GGUFWriter(first, "llama")
    writer.add_token_list([b"\xf0\x9f", b"whole"])
    writer.add_float32("llama.scale", 0.1)
    writer.add_tensor("plain", np.ones((3, 64), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    rewritten(first, second, lambda writer: None)
    assert first.read_bytes() == second.read_bytes()
