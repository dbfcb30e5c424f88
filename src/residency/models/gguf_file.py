"""GGUF files: their header, read without loading them, and their weights as a training folder.

The layout is that of the GGUF specification in ggml's repository (docs/gguf.md), versions 2 and 3.
The `gguf` package reads it too, but takes seconds over a vocabulary and fails without words on a
damaged file.
"""

from __future__ import annotations

import contextlib
import io
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from residency.errors import ModelError, StorageError
from residency.progress import say

_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
DEQUANTIZER = 2  # raised when `dequantize` writes other files than before, which are cached
# llama.cpp's src/llama-vocab.cpp splits digits one by one for these; transformers does not look.
_SINGLE_DIGITS = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell"})
_MOST = 1 << 24  # fields, tensors or bytes of a name that a sound file stays far below
_HINT = "the download may have been cut short: fetch the file again and compare its SHA-256"


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufTensor:
    """`type` is ggml's name (`Q4_K`), `shape` fastest dimension first, `offset` from the start."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufField:
    """A key's value, strings as bytes, with ggml's number of its type and of that of its items."""

    type: int
    items: int | None
    value: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufHeader:
    """`metadata` has every key but the vocabulary's arrays, which are `tokens` and dropped."""

    architecture: str
    chat_template: str
    eos_token: str
    stop_tokens: tuple[str, ...]
    tokens: int
    metadata: Mapping[str, Any]
    tensors: tuple[GgufTensor, ...]


class _Cut(Exception):
    """The file ends, or stops making sense, inside its header."""


class _Reader:
    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def take(self, count: int) -> bytes:
        data = self.file.read(count)
        if len(data) < count:
            raise _Cut("it ends inside its header")
        return data

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def count(self) -> int:
        value = int(self.number("Q"))
        if value > _MOST:
            raise _Cut(f"a count of {value} in its header makes no sense")
        return value

    def string(self) -> bytes:
        return self.take(self.count())

    def field(self) -> GgufField:
        kind = self.number("I")
        if kind != _ARRAY:
            return GgufField(type=kind, items=None, value=self.value(kind))
        items = self.number("I")
        return GgufField(type=kind, items=items, value=self.array(items))

    def array(self, items: int) -> tuple[Any, ...]:
        length = self.count()
        if code := _SCALARS.get(items):
            width = struct.calcsize(f"<{code}")
            return struct.unpack(f"<{length}{code}", self.take(length * width))
        return tuple(self.value(items) for _ in range(length))

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise _Cut(f"type {kind} in its header is unknown")
        return self.array(self.number("I"))


def read_header(path: Path) -> GgufHeader:
    """The header of a GGUF file, whose size is checked against its list of tensors.

    Raises `ModelError` when the file is missing, is no GGUF, or is cut short or damaged.
    """
    fields, tensors = read_whole_header(path)
    values = {name: field.value for name, field in fields.items()}
    vocabulary = values.get("tokenizer.ggml.tokens", ())
    return GgufHeader(
        architecture=_text(values.get("general.architecture", "")),
        chat_template=_text(values.get("tokenizer.chat_template", "")),
        eos_token=_token(values, vocabulary, "eos"),
        stop_tokens=_stops(values, vocabulary),
        tokens=len(vocabulary),
        metadata={
            k: _text(v) if isinstance(v, bytes) else v
            for k, v in values.items()
            if not isinstance(v, tuple)
        },
        tensors=tensors,
    )


def read_whole_header(path: Path) -> tuple[dict[str, GgufField], tuple[GgufTensor, ...]]:
    """All fields of a GGUF file as they stand in it, and its tensors; raises as `read_header`."""
    try:
        with path.open("rb") as file:
            magic, version = file.read(4), file.read(4)
            if magic != b"GGUF":
                raise ModelError(
                    f"{path}: not a GGUF file (it begins with {magic!r})",
                    hint="give a .gguf file, or a Hugging Face folder",
                )
            if version not in (b"\2\0\0\0", b"\3\0\0\0"):
                raise _Cut(f"version {int.from_bytes(version, 'little')} is unknown")
            return _parse(_Reader(file), path.stat().st_size)
    except _Cut as error:
        raise ModelError(f"{path}: damaged GGUF file: {error}", hint=_HINT) from None
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file", hint="check the path of the model") from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error


def _parse(reader: _Reader, size: int) -> tuple[dict[str, GgufField], tuple[GgufTensor, ...]]:
    tensor_count, field_count = reader.count(), reader.count()
    fields: dict[str, GgufField] = {}
    for _ in range(field_count):
        name = _text(reader.string())
        fields[name] = reader.field()
    entries = [_tensor_entry(reader) for _ in range(tensor_count)]
    alignment = fields["general.alignment"].value if "general.alignment" in fields else 32
    start = -(-reader.file.tell() // alignment) * alignment
    tensors = tuple(_tensor(entry, start) for entry in entries)
    need = max((t.offset + t.size for t in tensors), default=start)
    if size < need:
        raise _Cut(f"it is cut short: {size:,} bytes of {need:,}")
    return fields, tensors


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _token(fields: Mapping[str, Any], vocabulary: tuple[bytes, ...], kind: str) -> str:
    number = fields.get(f"tokenizer.ggml.{kind}_token_id", -1)
    return _text(vocabulary[number]) if 0 <= number < len(vocabulary) else ""


def _stops(fields: Mapping[str, Any], vocabulary: tuple[bytes, ...]) -> tuple[str, ...]:
    """What llama.cpp ends an answer at, as far as the file says it: eos, eot and eom."""
    named = (_token(fields, vocabulary, kind) for kind in ("eos", "eot", "eom"))
    return tuple(dict.fromkeys(token for token in named if token))


def _tensor_entry(reader: _Reader) -> tuple[str, tuple[int, ...], int, int]:
    name, dimensions = _text(reader.string()), reader.number("I")
    if dimensions > 8:
        raise _Cut(f"tensor {name!r} has {dimensions} dimensions")
    shape = tuple(reader.number("Q") for _ in range(dimensions))
    return name, shape, reader.number("I"), reader.number("Q")


def _tensor(entry: tuple[str, tuple[int, ...], int, int], start: int) -> GgufTensor:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    name, shape, kind, offset = entry
    try:
        ggml = GGMLQuantizationType(kind)
    except ValueError:
        raise _Cut(f"tensor {name!r} is of type {kind}, which llama.cpp does not know") from None
    block, width = GGML_QUANT_SIZES[ggml]
    size = math.prod(shape) // block * width
    return GgufTensor(name=name, type=ggml.name, shape=shape, offset=start + offset, size=size)


def tensor_names(architecture: str, layers: int) -> Callable[[str], str | None]:
    """What a GGUF calls a module of transformers (without `.weight`); None for one that it lacks.

    Raises `ModelError` for an architecture that the gguf package does not know.
    """
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    for known, name in MODEL_ARCH_NAMES.items():
        if name == architecture:
            return get_tensor_name_map(known, layers).get_name
    raise ModelError(
        f"the gguf package does not know the architecture {architecture!r}",
        hint="leave out export.imatrix, and lora in export.also",
    )


def dequantize(path: Path, out: Path) -> None:
    """Write the model of a GGUF file into the folder `out` as transformers saves it, in float16.

    float16 holds what a quantized file knows; training loads it in the precision it wants.
    Raises `ModelError` when the file is damaged or transformers does not know the architecture.
    """
    header = read_header(path)
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    if header.architecture not in GGUF_SUPPORTED_ARCHITECTURES:
        raise ModelError(
            f"{path}: transformers cannot read the architecture {header.architecture!r} from GGUF",
            hint="give the model as a Hugging Face folder",
        )
    import torch

    say(f"dequantizing {path.name} for training, about 10 s for each 100 MB")
    with contextlib.redirect_stderr(io.StringIO()):  # transformers draws three bars of its own
        model = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float16,
        )
        model.save_pretrained(out)
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        if header.metadata.get("tokenizer.ggml.pre") in _SINGLE_DIGITS:
            _split_digits(tokenizer)
        tokenizer.save_pretrained(out)


def _split_digits(tokenizer: Any) -> None:
    from tokenizers.pre_tokenizers import Digits, Sequence

    backend = tokenizer.backend_tokenizer
    digits = Digits(individual_digits=True)
    backend.pre_tokenizer = Sequence([digits, backend.pre_tokenizer])
