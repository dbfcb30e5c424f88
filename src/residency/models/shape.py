"""The shape of a model: layers, heads and widths, read from it or taken from one of its size."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from residency.errors import ModelError
from residency.models import carried
from residency.models.gguf_file import GgufHeader, read_header
from residency.models.tensor_types import Tensor

# Of so many layers one sees the whole context and the others a window: by architecture, as in
# llama.cpp (src/models/*.cpp, set_swa_pattern), for files and settings that do not say it.
_PERIODS = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4, "gpt-oss": 2, "gpt_oss": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """`width` is that of the hidden state, `hidden` that of the feed-forward.

    `windowed` layers see `window` tokens only. `file_size` in bytes is a GGUF's, else 0. `tensors`
    are as a GGUF has them. `basis` is `estimated` where the shape is another model's.
    `architecture` is what the model calls its own, and empty where nobody said.
    """

    source: str
    weights: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    vocabulary: int
    tied: bool = False
    window: int = 0
    windowed: int = 0
    file_size: int = 0
    basis: Literal["derived", "estimated"] = "derived"
    architecture: str = ""
    tensors: tuple[Tensor, ...] = ()

    @property
    def attention(self) -> str:
        """How heads share keys and values, which sets the size of the cache, in words."""
        if self.kv_heads == self.heads:
            words = f"MHA: each of {self.heads} heads has keys and values of its own"
        elif self.kv_heads == 1:
            words = f"MQA: {self.heads} heads share one set of keys and values"
        else:
            words = f"GQA: {self.heads} heads share {self.kv_heads} sets of keys and values"
        if not self.windowed:
            return words
        return f"{words}; {self.windowed} of {self.layers} layers see {self.window} tokens only"


def _typical(name: str, *sizes: int, tied: bool = False) -> Shape:
    layers, width, heads, kv_heads, head_dim, hidden, vocabulary = sizes
    return _counted(
        Shape(
            source=name,
            weights=0,
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            hidden=hidden,
            vocabulary=vocabulary,
            tied=tied,
        )
    )


def typical() -> tuple[Shape, ...]:
    """Models that stand for their size, from their published config.json."""
    return (
        _typical("SmolLM2-135M", 30, 576, 9, 3, 64, 1536, 49152, tied=True),
        _typical("Qwen2.5-0.5B", 24, 896, 14, 2, 64, 4864, 151936, tied=True),
        _typical("TinyLlama-1.1B", 22, 2048, 32, 4, 64, 5632, 32000),
        _typical("Llama-3.2-3B", 28, 3072, 24, 8, 128, 8192, 128256, tied=True),
        _typical("Mistral-7B", 32, 4096, 32, 8, 128, 14336, 32000),
        _typical("Qwen2.5-14B", 48, 5120, 40, 8, 128, 13824, 152064),
        _typical("Qwen2.5-32B", 64, 5120, 40, 8, 128, 27648, 152064),
        _typical("Llama-3-70B", 80, 8192, 64, 8, 128, 28672, 128256),
    )


def read_shape(name: str) -> Shape:
    """The shape that `name` means: a carried model, a folder, a GGUF file, or a size as 7B or 135M.

    Raises `ModelError` when it is none of these, or lacks what the shape needs.
    """
    path = Path(name).expanduser()
    if name in carried.MODELS:
        # A carried file is dequantized and exported anew: its own size says nothing.
        return dataclasses.replace(from_gguf(read_header(carried.gguf(name))), file_size=0)
    if path.is_dir():
        return _from_folder(path)
    if path.is_file():
        return from_gguf(read_header(path), file_size=path.stat().st_size)
    if size := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MB])", name, re.IGNORECASE):
        return from_weights(round(float(size[1]) * (1e9 if size[2].upper() == "B" else 1e6)))
    raise ModelError(
        f"unknown model {name!r}",
        hint=f"carried: {', '.join(carried.MODELS)}; else a folder, a .gguf file, or a size as 7B",
    )


def from_weights(weights: int) -> Shape:
    """The shape of the typical model whose size is nearest, with `weights` weights.

    Raises `ModelError` when there are none.
    """
    if weights <= 0:
        raise ModelError("a model of no weights", hint="give a size as 7B or 135M")
    near = min(typical(), key=lambda s: abs(math.log(s.weights / weights)))
    source = f"{weights / 1e9:g}B weights, shaped like {near.source}"
    return dataclasses.replace(near, source=source, weights=weights, basis="estimated")


def from_config(config: Mapping[str, Any], source: str) -> Shape:
    """The shape in a Hugging Face `config.json`; its weights are counted as a Llama's."""
    config = config.get("text_config", config)
    try:
        heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
        windowed = _windowed(config)
        shape = Shape(
            source=source,
            weights=0,
            layers=int(config["num_hidden_layers"]),
            width=width,
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or width // heads),
            hidden=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
            window=int(config["sliding_window"]) if windowed else 0,
            windowed=windowed,
            architecture=str(config.get("model_type", "")),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(
            f"{source}: its config.json has no usable shape ({error})",
            hint="give the size instead, as 7B",
        ) from None
    return _counted(shape)


def _windowed(config: Mapping[str, Any]) -> int:
    """How many layers see a window only. A window that no layer is said to have (Mistral's first
    version, Qwen 2) is not used by llama.cpp either."""
    if not config.get("sliding_window") or config.get("use_sliding_window") is False:
        return 0
    if kinds := config.get("layer_types"):
        return sum("sliding" in kind for kind in kinds)
    own = _PERIODS.get(str(config.get("model_type")), 0)
    return _outside(int(config["num_hidden_layers"]), config.get("sliding_window_pattern") or own)


def _outside(layers: int, period: int) -> int:
    """Of `layers`, those that are not each `period`-th."""
    return layers - layers // period if period else 0


def from_gguf(header: GgufHeader, *, file_size: int = 0) -> Shape:
    """The shape in the header of a GGUF file. Raises `ModelError` where it lacks a field."""

    def field(name: str, default: Any = None) -> int:
        value = header.metadata.get(f"{header.architecture}.{name}", default)
        if not isinstance(value, int):
            raise ModelError(
                f"the GGUF's header has no usable {header.architecture}.{name}",
                hint="give the size instead, as 7B",
            )
        return value

    layers, heads, width = (
        field(name) for name in ("block_count", "attention.head_count", "embedding_length")
    )
    period = _PERIODS.get(header.architecture, 0)
    window = field("attention.sliding_window", 0) if period else 0
    tensors = tuple(Tensor(name=t.name, shape=t.shape, type=t.type) for t in header.tensors)
    return Shape(
        source=str(header.metadata.get("general.name", header.architecture)),
        weights=sum(math.prod(t.shape) for t in tensors),
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=field("attention.head_count_kv", heads),
        head_dim=field("attention.key_length", width // max(1, heads)),
        hidden=field("feed_forward_length"),
        vocabulary=header.tokens,
        tied=all(t.name != "output.weight" for t in tensors),
        window=window,
        windowed=_outside(layers, period) if window else 0,
        file_size=file_size,
        architecture=header.architecture,
        tensors=tensors,
    )


def _from_folder(path: Path) -> Shape:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path}: no readable config.json, so not a model folder ({error})",
            hint="give the folder that transformers' save_pretrained wrote",
        ) from None
    shape = from_config(config if isinstance(config, dict) else {}, path.name)
    return dataclasses.replace(shape, weights=stored_weights(path) or shape.weights)


def stored_weights(folder: Path) -> int:
    """How many weights the safetensors files of a folder hold, by their headers alone. Raises
    `ModelError` for a damaged one."""
    return sum(_safetensors_weights(file) for file in folder.glob("*.safetensors"))


def _safetensors_weights(file: Path) -> int:
    """How many weights a file holds, by its header: its length in 8 bytes, then JSON."""
    try:
        with file.open("rb") as stream:
            header = json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0]))
        return sum(math.prod(t["shape"]) for name, t in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise ModelError(
            f"{file}: damaged safetensors file: {error}", hint="fetch the file again"
        ) from None


def _counted(shape: Shape) -> Shape:
    """The shape with the tensors that a Llama of it has, or a Gemma, and their weights counted."""
    width, hidden = shape.width, shape.hidden
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    block = {
        "attn_norm": (width,),
        "attn_q": (width, queries),
        "attn_k": (width, keys),
        "attn_v": (width, keys),
        "attn_output": (queries, width),
        "ffn_norm": (width,),
        "ffn_gate": (width, hidden),
        "ffn_up": (width, hidden),
        "ffn_down": (hidden, width),
    }
    if shape.architecture.startswith("gemma"):
        block |= {"post_attention_norm": (width,), "post_ffw_norm": (width,)}
    if shape.architecture.startswith("gemma3"):
        block |= {"attn_q_norm": (shape.head_dim,), "attn_k_norm": (shape.head_dim,)}
    sizes: dict[str, tuple[int, ...]] = {"token_embd": (width, shape.vocabulary)}
    sizes["output_norm"] = (width,)
    if not shape.tied:
        sizes["output"] = (width, shape.vocabulary)
    for layer in range(shape.layers):
        sizes |= {f"blk.{layer}.{name}": size for name, size in block.items()}
    tensors = tuple(
        Tensor(name=f"{name}.weight", shape=size, type="F16") for name, size in sizes.items()
    )
    weights = sum(math.prod(t.shape) for t in tensors)
    return dataclasses.replace(shape, weights=weights, tensors=tensors)
