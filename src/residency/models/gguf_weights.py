"""A GGUF file with its weights mapped, to be written again in another form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.models.gguf_file import GgufField, GgufTensor, read_whole_header


@dataclass(frozen=True, kw_only=True, slots=True)
class MappedTensor:
    """A tensor's `data` in the file: slowest dimension first, of float16 or float32, or of the
    bytes of its blocks. `shape` is in values and fastest dimension first, as the file has it."""

    name: str
    type: str
    shape: tuple[int, ...]
    data: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Gguf:
    """All that is in a GGUF file, strings among its fields as bytes."""

    fields: Mapping[str, GgufField]
    tensors: tuple[MappedTensor, ...]

    def value(self, key: str, default: Any = None) -> Any:
        """What a field says; text where that is a string."""
        value = self.fields[key].value if key in self.fields else default
        return value.decode("utf-8") if isinstance(value, bytes) else value


def open_gguf(path: Path) -> Gguf:
    """Map a GGUF file; what is mapped stays readable when the file is deleted.

    Raises `ModelError` when the file is missing, is no GGUF, or is cut short or damaged.
    """
    import numpy as np

    fields, tensors = read_whole_header(path)
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    return Gguf(fields=fields, tensors=tuple(_mapped(tensor, mapped) for tensor in tensors))


def _mapped(tensor: GgufTensor, mapped: Any) -> MappedTensor:
    data = mapped[tensor.offset : tensor.offset + tensor.size]
    if tensor.type in ("F16", "F32"):
        data = data.view({"F16": "<f2", "F32": "<f4"}[tensor.type])
    rows = tuple(reversed(tensor.shape[1:]))
    return MappedTensor(
        name=tensor.name, type=tensor.type, shape=tensor.shape, data=data.reshape(*rows, -1)
    )


def copy_fields(gguf: Gguf, writer: Any, changed: Mapping[str, int]) -> None:
    """Give a `gguf.GGUFWriter` the fields of a file, with those of `changed` in their place."""
    from gguf import GGUFValueType

    for name, field in gguf.fields.items():
        # The writer has set the architecture itself.
        if name != "general.architecture" and name not in changed:
            kind = GGUFValueType(field.type)
            items = None if field.items is None else GGUFValueType(field.items)
            writer.add_key_value(name, field.value, kind, sub_type=items)
    for key, value in changed.items():
        writer.add_uint32(key, value)
