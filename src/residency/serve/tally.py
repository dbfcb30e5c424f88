"""What an answer came to that was left before its engine had counted it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from residency.serve.notes import Notes

Chunk = dict[str, Any]


class Tally:
    """Keeps count of a stream's tokens as they pass.

    llama.cpp sends exact counts with each chunk if asked for `timings_per_token`. Else a chunk with
    text counts as one token, as vLLM and llama.cpp send them, and the prompt's tokens stay unknown:
    then the usage is an estimate, and `notes.usage` says so.
    """

    def __init__(self) -> None:
        self.open: set[int] = set()
        self._written: dict[int, int] = {}
        self._timed: set[int] = set()
        self._timings: Mapping[str, Any] = {}
        self._asked = 0
        self._counted = 0

    @property
    def began(self) -> bool:
        """Whether a token has come: text or a part of a call."""
        return bool(self._written)

    def add(self, chunk: Mapping[str, Any]) -> None:
        timings = chunk.get("timings") or {}
        for part in chunk["choices"]:
            index, delta = part["index"], part["delta"]
            self.open.add(index)
            if delta.get("content") or delta.get("tool_calls"):
                if "predicted_n" in timings:
                    self._timings = timings
                    self._timed.add(index)
                    self._written[index] = timings["predicted_n"]
                else:
                    self._written[index] = self._written.get(index, 0) + 1
            if part.get("finish_reason"):
                self.open.discard(index)
        if usage := chunk.get("usage"):
            self._asked, self._timings = usage.get("prompt_tokens", 0), {}
            self._counted += usage.get("completion_tokens", 0)

    def usage(self, notes: Notes) -> dict[str, int]:
        """What the engine has not counted; to be added to the usages that it sent."""
        if self._written.keys() - self._timed:
            notes.usage = "estimated"
        if self._timings:
            self._asked = self._timings.get("prompt_n", 0) + self._timings.get("cache_n", 0)
        written = max(0, sum(self._written.values()) - self._counted)
        return {
            "prompt_tokens": self._asked,
            "completion_tokens": written,
            "total_tokens": self._asked + written,
        }
