"""Whether a plan fits in memory, and what is changed where it does not."""

from __future__ import annotations

from pathlib import Path

import psutil

from residency.config import TrainSettings
from residency.errors import MissingError
from residency.models import memory
from residency.models.shape import read_shape
from residency.train.plan import Plan


def fit_memory(plan: Plan, settings: TrainSettings, base: Path, longest: int) -> Plan:
    """`plan` as it is if it fits; else with gradient checkpointing, unless that is set.

    `longest` is in tokens. Raises `MissingError` where the weights and what training keeps for
    them are more than is free: no smaller batch would help, and where a GPU is wanted and none is.
    """
    if plan.device == "cuda":
        _require_gpus(plan.processes)
        return plan  # the host's memory says nothing of a GPU's
    if settings.checkpointing is not None:
        return plan.changed(
            f"gradient checkpointing {'on' if settings.checkpointing else 'off'}: as set",
            checkpointing=settings.checkpointing,
        )
    free = psutil.virtual_memory().available
    shape = read_shape(str(base))
    step = memory.Step(
        method=plan.method if plan.method in ("lora", "qlora") else "full",
        rank=plan.rank,
        rows=plan.rows_at_once,
        length=longest,
        precision=plan.precision,
        accumulation=plan.accumulation,
    )
    need = memory.training(shape, step)
    kept = sum(part.size for part in need.parts if part.name in ("activations", "holes"))
    least = need.total - kept
    if least * plan.processes > free:
        raise MissingError(
            f"training needs {least * plan.processes / 1e9:.1f} GB before the first row, and "
            f"{free / 1e9:.1f} GB of memory are free",
            hint=f"see what would fit with: residency fit {base.name} --train {plan.method}",
        )
    if need.total * plan.processes <= free:
        return plan
    return plan.changed(
        f"gradient checkpointing on: {need.total * plan.processes / 1e9:.1f} GB would be needed, "
        f"and {free / 1e9:.1f} GB are free",
        checkpointing=True,
    )


def _require_gpus(processes: int) -> None:
    import torch

    found = torch.cuda.device_count()
    if found < processes:
        raise MissingError(
            f"[train] device cuda with {processes} process{'es' if processes > 1 else ''}, and "
            f"torch sees {found} GPU{'s' if found != 1 else ''}",
            hint='set device = "cpu", or install the build of torch for your GPU',
        )
