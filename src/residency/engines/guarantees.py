"""What each engine guarantees of an answer that is asked for deterministically.

Measured with bench/determinism.py: twenty prompts alone, and again beside eight others. Nothing
more is ever said of an answer than stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Guarantee:
    """`words` say what holds; `fields` go into the engine's request beside temperature and seed."""

    words: str
    fields: Mapping[str, Any] = field(default_factory=dict)


# A prompt found in the cache is computed in other batches than a new one, and the last digits of
# its log-probabilities differ. Each request has a slot of its own: slots share no keys and values.
LLAMA_CPP = Guarantee(
    words="same bytes, alone and beside others, on this build and machine",
    fields={"cache_prompt": False},
)
VLLM = Guarantee(words="greedy and seeded; the bytes may differ beside others")
NONE = Guarantee(words="none: an API elsewhere answers")
GUARANTEES = {"llama.cpp": LLAMA_CPP, "vllm": VLLM}
"""By `ServedModel.engine`."""
