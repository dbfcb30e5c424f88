"""What a run will use, chosen from model and data size where the settings leave it open."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from residency.config import TrainSettings
from residency.hardware import Hardware
from residency.types import Method

# Learning rates that suit LoRA by number of weights. A 135M model reaches exact match 0.82 at 1e-3
# where the common 2e-4 leaves it untrained; 2e-4 is QLoRA's for 7B (Dettmers et al. 2023, table 9).
_RATES = ((200e6, 1e-3), (700e6, 5e-4), (2e9, 3e-4), (math.inf, 2e-4))
# All weights at once move a model ten times as far as an adapter does at the same rate: the best
# rates of LoRA are about ten times those of full training, whatever the model (Schulman et al.
# 2025, "LoRA Without Regret").
_FULL_SHARE = 0.1
# What begins from nothing learns at higher rates the smaller it is (GPT-3's table 2.1 has 6e-4 at
# 125M weights). For two million 1.5e-3 was better than 3e-3, and batches of 8 rows than of 32 at
# equal time: to learn to copy takes steps more than rows (docs/log.md).
_SCRATCH_RATES = ((10e6, 1.5e-3), (50e6, 1e-3), (math.inf, 6e-4))
_SCRATCH_BATCH = 8
# Half of a model's layers have to find each other again: more than fine-tuning asks for.
_STUDENT_RATE = 5e-4
# Tokens that a run should show the model in all, context included: enough for the shipped task,
# and five to six minutes on two cores without AVX-512 (docs/log.md).
_TOKENS_SHOWN = 64_000
_FEW_ROWS = 2000
WARM_UP = 0.06


Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The settings of a run; `reasons` has a line for each choice made.

    `batch` is rows a step, over all `processes`; a step is computed in `accumulation` parts, one
    after another. `length` is the longest row in tokens; 0 sets no bound. `checkpointing` computes
    activations again instead of keeping them. `sharded` divides the model among the processes,
    which else have a copy each. `threads` are those of one process.
    """

    method: Method
    epochs: float
    learning_rate: float
    rank: int
    alpha: int
    dropout: float
    batch: int
    accumulation: int = 1
    length: int = 0
    precision: Precision
    device: Literal["cpu", "cuda"] = "cpu"
    checkpointing: bool = False
    processes: int = 1
    sharded: bool = False
    threads: int
    reasons: tuple[str, ...]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """The plan that `types.to_dict` made `values` of."""
        return cls(**{**values, "reasons": tuple(values["reasons"])})

    @property
    def rows_at_once(self) -> int:
        """Rows that one process computes together."""
        return max(1, self.batch // (self.accumulation * self.processes))

    @property
    def adapts(self) -> bool:
        """Whether an adapter is trained, and not the weights themselves."""
        return self.method in ("lora", "qlora")

    def changed(self, reason: str, **values: Any) -> Plan:
        """The same plan with other `values`, and the reason added."""
        return dataclasses.replace(self, reasons=(*self.reasons, reason), **values)


def suited_rate(method: Method, parameters: int) -> float:
    """The learning rate that suits a model of `parameters` weights."""
    if method == "scratch":
        return next(rate for limit, rate in _SCRATCH_RATES if parameters <= limit)
    if method == "distill":
        return _STUDENT_RATE
    rate = next(rate for limit, rate in _RATES if parameters <= limit)
    return rate if method in ("lora", "qlora") else rate * _FULL_SHARE


def make_plan(
    settings: TrainSettings, *, parameters: int, lengths: Sequence[int], hardware: Hardware
) -> Plan:
    """Fill in what `settings` leave open for a model of `parameters` weights and rows of `lengths`
    tokens."""
    rows, tokens = len(lengths), sum(lengths)
    reasons: list[str] = []

    def choose(name: str, given: float | None, own: float, why: str) -> float:
        value = own if given is None else given
        reasons.append(f"{name} {value:g}: {'as set' if given is not None else why}")
        return value

    # What learns from a teacher's answers is an adapter like any other.
    from_answers = settings.method == "distill" and not settings.teacher_model
    method: Method = "lora" if from_answers else settings.method
    whole = method not in ("lora", "qlora")
    rate = suited_rate(method, parameters)
    size = f"{parameters / 1e6:.0f}M weights"
    size += ", a tenth of an adapter's" if method == "full" else ""
    epochs = _epochs(method, tokens, parameters)
    precision = _precision(settings, hardware, reasons)
    rank, alpha, dropout = (0, 0, 0.0) if whole else _adapter(settings, rows, choose)
    usual = _SCRATCH_BATCH if method == "scratch" else 8 if rows >= _FEW_ROWS else 4
    batch = int(choose("batch", settings.batch, usual, f"for {rows} rows"))
    processes = settings.processes or 1
    if batch % processes:
        batch = -(-batch // processes) * processes
        reasons.append(f"batch {batch}: the next that {processes} processes can share")
    return Plan(
        method=method,
        learning_rate=choose("learning rate", settings.learning_rate, rate, f"for {size}"),
        epochs=choose("epochs", settings.epochs, epochs, f"for {tokens} tokens"),
        rank=rank,
        alpha=alpha,
        dropout=dropout,
        batch=batch,
        precision=precision,
        device=settings.device if settings.device != "auto" else hardware.device,
        processes=processes,
        sharded=settings.sharded,
        threads=max(1, (settings.threads or hardware.cores) // processes),
        reasons=tuple(reasons),
    )


def _epochs(method: Method, tokens: int, parameters: int) -> float:
    """How often rows of `tokens` in all are shown."""
    if method == "scratch":
        return float(min(40, max(4, round(parameters / tokens))))
    return min(6.0, max(1.4, round(_TOKENS_SHOWN / tokens, 1)))


def _adapter(
    settings: TrainSettings, rows: int, choose: Callable[..., float]
) -> tuple[int, int, float]:
    """Rank, alpha and dropout of an adapter for `rows` rows."""
    rank = int(choose("rank", settings.rank, 16 if rows >= 200 else 8, f"{rows} rows"))
    alpha = int(choose("alpha", settings.alpha, 2 * rank, "twice the rank"))
    dropout = choose(
        "dropout",
        settings.dropout,
        0.0,
        "early stopping guards against memorising, and dropout costs a fifth of the speed",
    )
    return rank, alpha, dropout


def _precision(settings: TrainSettings, hardware: Hardware, reasons: list[str]) -> Precision:
    if settings.precision != "auto":
        reasons.append(f"precision {settings.precision}: as set")
        return settings.precision
    if settings.method == "qlora":
        reasons.append("precision bfloat16: what weights in 4 bits are unpacked to")
        return "bfloat16"
    if settings.method in ("full", "scratch") or settings.teacher_model:
        # It has 8 bits of mantissa: a weight swallows steps below a 256th of itself.
        reasons.append("precision float32: weights in bfloat16 would swallow small steps")
        return "float32"
    if hardware.fast_bfloat16:
        reasons.append("precision bfloat16: this processor multiplies it in hardware")
        return "bfloat16"
    reasons.append("precision float32: this processor has no fast bfloat16")
    return "float32"


def row_order(lengths: Sequence[int], *, epochs: float, batch: int, seed: int) -> list[int]:
    """The rows of the whole run, in order, so that each `batch` has rows of about one length.

    `lengths` are in tokens. Every epoch shuffles anew; within groups of 16 batches rows are sorted
    by length, and the batches then shuffled. The order depends on `seed` alone, which is what
    lets a killed run resume at the step where it was.
    """
    dice = random.Random(seed)
    order: list[int] = []
    for _ in range(math.ceil(epochs)):
        rows = list(range(len(lengths)))
        dice.shuffle(rows)
        groups = [rows[i : i + 16 * batch] for i in range(0, len(rows), 16 * batch)]
        batches = [
            part[i : i + batch]
            for part in (sorted(group, key=lambda row: lengths[row]) for group in groups)
            for i in range(0, len(part), batch)
        ]
        short = [b for b in batches if len(b) < batch]
        full = [b for b in batches if len(b) == batch]
        dice.shuffle(full)
        order += [row for b in full + short for row in b]
    return order[: round(epochs * len(lengths))]
