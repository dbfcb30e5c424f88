"""A GGUF as several files, for stores and networks that bear no large ones."""

from __future__ import annotations

from pathlib import Path

from residency.export.quantize import copy_metadata, open_source
from residency.models.gguf_file import read_header

_MB = 1_000_000


def split(path: Path, megabytes: int) -> Path:
    """Put a GGUF's shards into the folder of its name without `.gguf`, and return that.

    Each has at most so many megabytes of weights, but at least one tensor; names and fields are
    llama.cpp's, which loads all when it is given the first. A smaller file is left as it is, and
    so is any with `megabytes` 0.
    """
    from gguf import GGUFWriter

    header, limit = read_header(path), megabytes * _MB
    if not limit or sum(tensor.size for tensor in header.tensors) <= limit:
        return path
    reader = open_source(path)
    folder = path.with_suffix("")
    folder.mkdir(exist_ok=True)
    writer = GGUFWriter(folder / path.name, header.architecture, split_max_size=limit)
    copy_metadata(reader, writer, {})
    for tensor in reader.tensors:
        # Of a quantized tensor the shape is in bytes, which the writer turns into values.
        writer.add_tensor_info(
            tensor.name,
            tensor.data.shape,
            tensor.data.dtype,
            int(tensor.n_bytes),
            tensor.tensor_type,
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in reader.tensors:
        writer.write_tensor_data(tensor.data)
    writer.close()
    path.unlink()
    return folder
