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
from typing import Any

from residency.errors import ModelError
from residency.export.imatrix import Imatrix
from residency.hardware import usable_cores
from residency.models.gguf_weights import Gguf, MappedTensor, copy_fields
from residency.models.tensor_types import Choice, Mix, Tensor, choose_types
from residency.progress import Progress
from residency.types import Level

# ggml's version of the block formats: GGML_QNT_VERSION in ggml.h.
_QUANTIZATION_VERSION = 2
_VALUES_A_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantized:
    """How many tensors have each type, and how many fell back, as `Q4_K -> Q5_0`.

    `imatrix` says what importance matrix was used, and is empty without one.
    """

    types: Mapping[str, int]
    fallbacks: Mapping[str, int]
    imatrix: str = ""

    def notes(self) -> tuple[str, ...]:
        """In words, for the build."""
        kinds = ", ".join(f"{count} {name}" for name, count in self.types.items())
        lines = [f"tensors by type: {kinds}"] + [self.imatrix] * bool(self.imatrix)
        if self.fallbacks:
            moves = ", ".join(f"{count} {move}" for move, count in self.fallbacks.items())
            lines.append(
                f"{sum(self.fallbacks.values())} tensors have rows that the wanted type's blocks "
                f"do not divide, and fell back: {moves}"
            )
        return tuple(lines)


def quantize(source: Gguf, target: Path, level: Level, imatrix: Imatrix | None = None) -> Quantized:
    """Write an f16 GGUF at `level` to the file `target`, with all its metadata.

    The same source gives the same bytes. llama.cpp wants an importance matrix for its levels below
    these only, whose blocks have too few values to spread over all weights alike. Raises
    `ModelError` for a tensor that is neither float16 nor float32.
    """
    from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType

    chosen = _choose(source, level, imatrix)
    writer = GGUFWriter(target, source.value("general.architecture"))
    changed = {
        "general.file_type": int(LlamaFileType[f"MOSTLY_{level.upper()}"]),
        "general.quantization_version": _QUANTIZATION_VERSION,
    }
    weights: Mapping[str, Any] = {}
    if imatrix:
        weights = imatrix.named(*_size_of_model(source))
        writer.add_string("quantize.imatrix.dataset", imatrix.source)
        changed["quantize.imatrix.entries_count"] = len(weights)
        changed["quantize.imatrix.chunks_count"] = imatrix.conversations
    copy_fields(source, writer, changed)
    for tensor in source.tensors:
        kind = GGMLQuantizationType[chosen[tensor.name].type]
        shape = list(reversed(tensor.shape))
        size = _size(shape, kind)
        writer.add_tensor_info(tensor.name, shape, tensor.data.dtype, size, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    with (
        Progress(f"quantizing to {level}", len(source.tensors)) as progress,
        ThreadPoolExecutor(usable_cores()) as pool,
    ):
        for tensor in source.tensors:
            name, weight = chosen[tensor.name].type, weights.get(tensor.name)
            writer.write_tensor_data(_convert(tensor, name, weight, pool))
            progress.advance(note=tensor.name)
    writer.close()
    return _summary(chosen, imatrix.note(len(weights)) if imatrix else "")


def _size_of_model(source: Gguf) -> tuple[str, int]:
    """Its architecture and how many layers it has."""
    architecture = source.value("general.architecture")
    return architecture, source.value(f"{architecture}.block_count")


def _choose(source: Gguf, level: Level, imatrix: Imatrix | None) -> dict[str, Choice]:
    architecture, layers = _size_of_model(source)
    tensors = [Tensor(name=t.name, shape=t.shape, type=t.type) for t in source.tensors]
    for tensor in tensors:
        if tensor.type not in ("F16", "F32"):
            raise ModelError(
                f"tensor {tensor.name} is {tensor.type}: only float16 and float32 are quantized",
                hint="start from an f16 GGUF",
            )
    heads, keys = (
        source.value(f"{architecture}.attention.head_count{part}", 1) for part in ("", "_kv")
    )
    # Where layers differ there is a list; llama.cpp goes by the first.
    heads, keys = (n[0] if isinstance(n, tuple) else n for n in (heads, keys))
    mix = Mix(
        level=level,
        layers=layers,
        experts=source.value(f"{architecture}.expert_count", 0),
        gqa=heads // keys if keys else 0,
        imatrix=imatrix is not None,
    )
    return choose_types(tensors, mix)


def _size(shape: list[int], kind: Any) -> int:
    from gguf import GGML_QUANT_SIZES

    values, size = GGML_QUANT_SIZES[kind]
    total = 1
    for length in shape:
        total *= length
    return int(total // values * size)


def _convert(tensor: MappedTensor, type_name: str, weights: Any, pool: ThreadPoolExecutor) -> Any:
    """The tensor's data as `type_name`, with the importance `weights` of its columns or None.

    Rows are shared out, as libgguf lets go of the GIL.
    """
    import libgguf
    import numpy as np
    from gguf import GGMLQuantizationType

    if tensor.type == type_name:
        return tensor.data
    kind = GGMLQuantizationType[type_name]
    rows = tensor.data.reshape(-1, tensor.data.shape[-1])
    step = max(1, _VALUES_A_CHUNK // rows.shape[-1])
    chunks = [rows[i : i + step] for i in range(0, len(rows), step)]
    done = pool.map(lambda chunk: libgguf.quantize_rows(chunk, kind, weights), chunks)
    return np.concatenate(list(done))


def _summary(chosen: Mapping[str, Choice], imatrix: str) -> Quantized:
    types = Counter(c.type for c in chosen.values())
    moves = Counter(f"{c.fell_from} -> {c.type}" for c in chosen.values() if c.fell_from)
    return Quantized(
        types=dict(sorted(types.items())), fallbacks=dict(sorted(moves.items())), imatrix=imatrix
    )
