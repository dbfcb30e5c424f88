"""What a decision rests on: the load, the constraints, and what is at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MONTH = 365.25 / 12 * 86_400
"""Seconds in the mean month."""
Task = Literal["classification", "questions", "reasoning"]
Runtime = Literal["any", "dotnet", "java", "windows"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What one category asks in a month. Tokens are means a call; `cost` is money a month at the
    API as the log has it, None where it is to be had from the price table; `p95` in seconds;
    `alike` (0..1) says how alike its answers are; `examples` counts answers that could be learnt
    from."""

    name: str
    task: Task
    calls: float
    prompt_tokens: float
    completion_tokens: float
    cost: float | None = None
    p95: float | None = None
    alike: float | None = None
    examples: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """Money is in the price table's currency, for a month. `api_model` and `machine` are names in
    the price table; `machine` is what the model would run on, empty where none is chosen yet.

    `latency` is the p95 wanted, in seconds; `quality` the share (0..1) of answers that must be
    right, and `reached` what a specialist reached by the gate's evidence; `peak` is in requests a
    minute, `team_hours` a month, `memory` in bytes. `notation` says that the language or notation
    is one that no base model has seen, and `corpus` how many tokens of it are at hand. None is
    unknown.
    """

    loads: tuple[Load, ...]
    api_model: str
    may_leave: bool = True
    offline: bool = False
    latency: float | None = None
    quality: float | None = None
    reached: float | None = None
    budget: float | None = None
    peak: float | None = None
    team_hours: float | None = None
    languages: tuple[str, ...] = ("en",)
    machine: str = ""
    gpu: bool = False
    runtime: Runtime = "any"
    memory: float | None = None
    notation: bool = False
    corpus: float = 0.0

    @property
    def at_home(self) -> bool:
        """Whether the API is out of the question."""
        return self.offline or not self.may_leave
