"""A GGUF as several files, for stores and networks that bear no large ones."""

from __future__ import annotations

from pathlib import Path

from residency.models.gguf_weights import copy_fields, open_gguf

_MB = 1_000_000


def split(path: Path, megabytes: int) -> Path:
    """Put a GGUF's shards into the folder of its name without `.gguf`, and return that.

    Each has at most so many megabytes of weights, but at least one tensor; names and fields are
    llama.cpp's, which loads all when it is given the first. A smaller file is left as it is, and
    so is any with `megabytes` 0.
    """
    from gguf import GGMLQuantizationType, GGUFWriter

    if not megabytes:
        return path
    source, limit = open_gguf(path), megabytes * _MB
    if sum(tensor.data.nbytes for tensor in source.tensors) <= limit:
        return path
    folder = path.with_suffix("")
    folder.mkdir(exist_ok=True)
    writer = GGUFWriter(
        folder / path.name, source.value("general.architecture"), split_max_size=limit
    )
    copy_fields(source, writer, {})
    for tensor in source.tensors:
        # Of a quantized tensor the shape is in bytes, which the writer turns into values.
        writer.add_tensor_info(
            tensor.name,
            tensor.data.shape,
            tensor.data.dtype,
            tensor.data.nbytes,
            GGMLQuantizationType[tensor.type],
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in source.tensors:
        writer.write_tensor_data(tensor.data)
    writer.close()
    path.unlink()
    return folder
