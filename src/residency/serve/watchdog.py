"""When an engine's memory asks for a fresh engine: a pure step from reading to reading."""

from __future__ import annotations

from dataclasses import dataclass, replace

SETTLED = 60.0
STRIKES = 3
GROWTH = 2.0
"""A llama.cpp engine has all its memory from the start: weights, keys and values, buffers. One that
took twice of it leaks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """What is known of one engine's resident memory, in bytes; times in seconds.

    `first` is the most that was seen in the first minute, `over` how many readings in a row were
    too high, and `words` say why the engine is to be replaced; they are empty when it is not.
    """

    since: float
    first: int = 0
    over: int = 0
    words: str = ""

    def read(self, memory: int, now: float, limit: int) -> Memory:
        """With one more reading; 0 is none. `limit` 0 sets none, and growth alone decides.

        Nor is an engine replaced for a limit that it was over from the start: the next one would be
        too. Three readings in a row decide: a peak passes.
        """
        if not memory:
            return self
        if now - self.since < SETTLED:
            return replace(self, first=max(self.first, memory))
        first = self.first or memory
        most = limit if first < limit else int(first * GROWTH)
        over = self.over + 1 if memory > most else 0
        words = f"its memory is {_mb(memory)}, over {_mb(most)}" if over >= STRIKES else ""
        return replace(self, first=first, over=over, words=words)


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
