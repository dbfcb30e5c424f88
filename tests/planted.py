"""Faults planted in model files, for the tests of what must catch them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

CHATML_WITHOUT_SYSTEM = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def rewritten(source: Path, target: Path, change: Callable[..., None]) -> Path:
    """The GGUF `source` again, after `change(writer)` has replaced some of its metadata."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter

    reader = GGUFReader(source)
    writer = GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    change(writer)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def zeroed(source: Path, target: Path, tensor: str) -> Path:
    """The GGUF `source` again, with nothing but zeros in one of its tensors."""
    from gguf import GGUFReader

    shutil.copyfile(source, target)
    reader = GGUFReader(target, mode="r+")
    next(one for one in reader.tensors if one.name == tensor).data[:] = 0
    reader.data.flush()
    return target
