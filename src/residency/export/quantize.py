"""Write a quantized GGUF from an f16 one, tensor by tensor.

The bytes of each tensor come from libgguf, which is llama.cpp's reference quantization; a test
compares them with `ggml_quantize_chunk` of the llama.cpp that serves. Why: docs/decisions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residency.config import Level
from residency.errors import ModelError
from residency.hardware import usable_cores
from residency.models.tensor_types import Choice, Tensor, choose_types
from residency.progress import Progress

if TYPE_CHECKING:
    from gguf import GGUFReader

# ggml's version of the block formats: GGML_QNT_VERSION in ggml.h.
_QUANTIZATION_VERSION = 2
_VALUES_A_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantized:
    """How many tensors have each type, and how many fell back, as `Q4_K -> Q5_0`."""

    types: Mapping[str, int]
    fallbacks: Mapping[str, int]

    def notes(self) -> tuple[str, ...]:
        """In words, for the build."""
        kinds = ", ".join(f"{count} {name}" for name, count in self.types.items())
        lines = [f"tensors by type: {kinds}"]
        if self.fallbacks:
            moves = ", ".join(f"{count} {move}" for move, count in self.fallbacks.items())
            lines.append(
                f"{sum(self.fallbacks.values())} tensors have rows that the wanted type's blocks "
                f"do not divide, and fell back: {moves}"
            )
        return tuple(lines)


def open_source(path: Path) -> GGUFReader:
    """An f16 GGUF, its weights mapped; reading the vocabulary takes seconds, so open it once."""
    from gguf import GGUFReader

    return GGUFReader(path)


def quantize(reader: GGUFReader, target: Path, level: Level) -> Quantized:
    """Write an f16 GGUF at `level` to the file `target`, with all its metadata.

    The same source gives the same bytes. Raises `ModelError` for a tensor that is neither float16
    nor float32.
    """
    from gguf import GGMLQuantizationType, GGUFWriter

    chosen = _choose(reader, level)
    writer = GGUFWriter(target, _value(reader, "general.architecture"))
    _copy_metadata(reader, writer, level)
    for tensor in reader.tensors:
        kind = GGMLQuantizationType[chosen[tensor.name].type]
        shape = [int(n) for n in reversed(tensor.shape)]
        size = _size(shape, kind)
        writer.add_tensor_info(tensor.name, shape, tensor.data.dtype, size, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    with (
        Progress(f"quantizing to {level}", len(reader.tensors)) as progress,
        ThreadPoolExecutor(usable_cores()) as pool,
    ):
        for tensor in reader.tensors:
            writer.write_tensor_data(_convert(tensor, chosen[tensor.name].type, pool))
            progress.advance(note=tensor.name)
    writer.close()
    return _summary(chosen)


def _choose(reader: GGUFReader, level: Level) -> dict[str, Choice]:
    architecture = _value(reader, "general.architecture")
    tensors = [
        Tensor(name=t.name, shape=tuple(int(n) for n in t.shape), type=t.tensor_type.name)
        for t in reader.tensors
    ]
    for tensor in tensors:
        if tensor.type not in ("F16", "F32"):
            raise ModelError(
                f"tensor {tensor.name} is {tensor.type}: only float16 and float32 are quantized",
                hint="start from an f16 GGUF",
            )
    return choose_types(
        tensors,
        level,
        layers=_value(reader, f"{architecture}.block_count"),
        experts=_value(reader, f"{architecture}.expert_count", 0),
    )


def _value(reader: GGUFReader, key: str, default: Any = None) -> Any:
    field = reader.get_field(key)
    return field.contents() if field else default


def _copy_metadata(reader: GGUFReader, writer: Any, level: Level) -> None:
    from gguf import GGUFValueType, LlamaFileType

    changed = {
        "general.file_type": int(LlamaFileType[f"MOSTLY_{level}"]),
        "general.quantization_version": _QUANTIZATION_VERSION,
    }
    for field in reader.fields.values():
        # The first are the file's own counts; the writer has set the architecture itself.
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        if field.name not in changed:
            writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    for key, value in changed.items():
        writer.add_uint32(key, value)


def _size(shape: list[int], kind: Any) -> int:
    from gguf import GGML_QUANT_SIZES

    values, size = GGML_QUANT_SIZES[kind]
    total = 1
    for length in shape:
        total *= length
    return int(total // values * size)


def _convert(tensor: Any, type_name: str, pool: ThreadPoolExecutor) -> Any:
    """The tensor's data as `type_name`; rows are shared out, as libgguf lets go of the GIL."""
    import libgguf
    import numpy as np
    from gguf import GGMLQuantizationType

    if tensor.tensor_type.name == type_name:
        return tensor.data
    kind = GGMLQuantizationType[type_name]
    rows = tensor.data.reshape(-1, tensor.data.shape[-1])
    step = max(1, _VALUES_A_CHUNK // rows.shape[-1])
    chunks = [rows[i : i + step] for i in range(0, len(rows), step)]
    done = pool.map(lambda chunk: libgguf.quantize_rows(chunk, kind), chunks)
    return np.concatenate(list(done))


def _summary(chosen: Mapping[str, Choice]) -> Quantized:
    types = Counter(c.type for c in chosen.values())
    moves = Counter(f"{c.fell_from} -> {c.type}" for c in chosen.values() if c.fell_from)
    return Quantized(types=dict(sorted(types.items())), fallbacks=dict(sorted(moves.items())))
