"""Faults planted in model files, for the tests of what must catch them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from residency.models.gguf_file import read_header
from residency.models.gguf_weights import copy_fields, open_gguf

CHATML_WITHOUT_SYSTEM = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def rewritten(source: Path, target: Path, change: Callable[..., None]) -> Path:
    """The GGUF `source` again, after `change(writer)` has replaced some of its metadata."""
    from gguf import GGMLQuantizationType, GGUFWriter

    whole = open_gguf(source)
    writer = GGUFWriter(target, "llama")
    copy_fields(whole, writer, {})
    change(writer)
    for tensor in whole.tensors:
        kind = GGMLQuantizationType[tensor.type]
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def zeroed(source: Path, target: Path, tensor: str) -> Path:
    """The GGUF `source` again, with nothing but zeros in one of its tensors."""
    shutil.copyfile(source, target)
    return overwritten(target, tensor, b"\0")


def overwritten(path: Path, tensor: str, value: bytes) -> Path:
    """The GGUF `path` after `value` has been put over all of one of its tensors."""
    found = next(one for one in read_header(path).tensors if one.name == tensor)
    with path.open("r+b") as file:
        file.seek(found.offset)
        file.write(value * (found.size // len(value)))
    return path
