"""POST /v1/embeddings: what is asked, and the engine's answer checked."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from residency.config import Seconds
from residency.errors import EngineError
from residency.serve.schema import Part, read, refuse

MAX_TEXTS = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingsAsked:
    """`packed` says that the vectors go out as base64 of little-endian 32-bit floats; `timeout` in
    seconds, None leaving it to the settings."""

    model: str
    texts: tuple[str, ...]
    packed: bool
    subject: str
    timeout: float | None


def _texts(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


class _EmbeddingsRequest(Part):
    model: str
    input: Annotated[
        list[Annotated[str, Field(min_length=1)]],
        Field(min_length=1, max_length=MAX_TEXTS),
        BeforeValidator(_texts),
    ]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[None, refuse("a vector has the model's own length")] = None
    user: str | None = None
    timeout: Seconds | None = None


def parse(body: bytes) -> EmbeddingsAsked:
    """The request in `body`. Raises `RequestError`."""
    given = read(_EmbeddingsRequest, body)
    return EmbeddingsAsked(
        model=given.model,
        texts=tuple(given.input),
        packed=given.encoding_format == "base64",
        subject=given.user or "",
        timeout=given.timeout,
    )


def question(asked: EmbeddingsAsked, model: str) -> dict[str, Any]:
    """The engine's request; `model` is its name there."""
    return {"model": model, "input": list(asked.texts), "encoding_format": "float"}


def whole(asked: EmbeddingsAsked, model: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the answer. Raises `EngineError` unless `found`, the engine's, has one vector of
    finite numbers for each text, all of one length."""
    vectors = _vectors(found)
    lengths = {len(vector) for vector in vectors}
    if len(vectors) != len(asked.texts) or len(lengths) != 1 or 0 in lengths:
        raise EngineError(
            f"the engine gave {len(vectors)} vectors of {len(lengths)} lengths "
            f"for {len(asked.texts)} texts"
        )
    if not all(math.isfinite(number) for vector in vectors for number in vector):
        raise EngineError("the engine gave a vector that is not of finite numbers")
    usage = found.get("usage") or {}
    count = usage.get("prompt_tokens", 0)
    return {
        "object": "list",
        "data": [_entry(index, vector, asked.packed) for index, vector in enumerate(vectors)],
        "model": model,
        "usage": {"prompt_tokens": count, "total_tokens": usage.get("total_tokens", count)},
    }


def _vectors(found: Mapping[str, Any]) -> list[list[float]]:
    try:
        entries = sorted(found["data"], key=lambda entry: entry["index"])
        return [[float(number) for number in entry["embedding"]] for entry in entries]
    except (KeyError, TypeError, ValueError):
        raise EngineError("the engine's answer has no vectors") from None


def _entry(index: int, vector: list[float], packed: bool) -> dict[str, Any]:
    form: Any = vector
    if packed:
        form = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return {"object": "embedding", "index": index, "embedding": form}
