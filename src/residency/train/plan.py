"""What a run will use, chosen from model and data size where the settings leave it open."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from residency.config import TrainSettings
from residency.hardware import Hardware

# Learning rates that suit LoRA by number of weights. A 135M model reaches exact match 0.82 at 1e-3
# where the common 2e-4 leaves it untrained; 2e-4 is QLoRA's for 7B (Dettmers et al. 2023, table 9).
_RATES = ((200e6, 1e-3), (700e6, 5e-4), (2e9, 3e-4), (math.inf, 2e-4))
# Tokens that a run should show the model in all, context included: enough for the shipped task,
# and five to six minutes on two cores without AVX-512 (docs/log.md).
_TOKENS_SHOWN = 64_000
_FEW_ROWS = 2000
WARM_UP = 0.06


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The settings of a run. `batch` is rows a step; `reasons` has a line for each choice made."""

    epochs: float
    learning_rate: float
    rank: int
    alpha: int
    dropout: float
    batch: int
    precision: Literal["float32", "bfloat16"]
    threads: int
    reasons: tuple[str, ...]


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

    rate = next(rate for limit, rate in _RATES if parameters <= limit)
    size = f"{parameters / 1e6:.0f}M weights"
    epochs = min(6.0, max(1.4, round(_TOKENS_SHOWN / tokens, 1)))
    rank = 16 if rows >= 200 else 8
    precision = _precision(settings, hardware, reasons)
    chosen_rank = int(choose("rank", settings.rank, rank, f"{rows} rows"))
    return Plan(
        learning_rate=choose("learning rate", settings.learning_rate, rate, f"for {size}"),
        epochs=choose("epochs", settings.epochs, epochs, f"for {tokens} tokens"),
        rank=chosen_rank,
        alpha=int(choose("alpha", settings.alpha, 2 * chosen_rank, "twice the rank")),
        dropout=choose(
            "dropout",
            settings.dropout,
            0.0,
            "early stopping guards against memorising, and dropout costs a fifth of the speed",
        ),
        batch=int(
            choose("batch", settings.batch, 8 if rows >= _FEW_ROWS else 4, f"for {rows} rows")
        ),
        precision=precision,
        threads=settings.threads or hardware.cores,
        reasons=tuple(reasons),
    )


def _precision(
    settings: TrainSettings, hardware: Hardware, reasons: list[str]
) -> Literal["float32", "bfloat16"]:
    if settings.precision != "auto":
        reasons.append(f"precision {settings.precision}: as set")
        return settings.precision
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
