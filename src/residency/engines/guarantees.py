"""What each engine guarantees of an answer that is asked for deterministically.

Nothing more is ever said of an answer than stands here. bench/determinism.py measures it: twenty
prompts alone, and again beside eight others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Guarantee:
    """`words` say what holds; `fields` go into the engine's request beside temperature and seed;
    `alone` asks for an engine that answers one request at a time."""

    words: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False


# A slot is not enough: with several at work, matrix products have more rows and other kernels. On
# one engine Q8_0 gave the same bytes beside others, Q4_K_M did not. A prompt found in the cache is
# computed in other batches too.
LLAMA_CPP = Guarantee(
    words="same bytes for the same request, on this build and machine",
    fields={"cache_prompt": False},
    alone=True,
)
VLLM = Guarantee(words="greedy and seeded; beside others the bytes may differ")
ONNX = Guarantee(words="same bytes for the same request, on this build and machine")
NONE = Guarantee(words="none: an API elsewhere answers")
GUARANTEES = {"llama.cpp": LLAMA_CPP, "vllm": VLLM, "onnx": ONNX}
"""By `ServedModel.engine`."""
