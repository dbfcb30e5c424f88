"""Whether a model fits in this machine's memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

from residency import hardware
from residency.cli import Result
from residency.models.memory import LEVELS, Method, Need, Precision, need, training
from residency.models.shape import Shape, from_weights, read_shape
from residency.types import to_dict

RANK, ROWS = 16, 4  # LoRA's rank and the rows of a step that training takes without settings
CONTEXT, TRAINED = 2048, 512  # tokens for an answer, and of a row in training
_Trial = tuple[str, Need]


def fit(
    workspace: Path,
    model: str,
    context: int | None,
    slots: int,
    level: str | None,
    train: Method | None,
) -> Result:
    """Say what MODEL needs, part by part, and whether that is free; exit code 2 where it is not.

    `context` is in tokens, of each slot or of a row of training; without a `level` a GGUF file is
    taken as it is, and anything else at Q4_K_M.
    """
    local = workspace / model
    shape = read_shape(str(local) if local.exists() else model)
    level = level or ("" if shape.file_size else "Q4_K_M")
    if train:
        wanted = _training(shape, train, context or TRAINED)
        trials = _lighter_training(shape, train, context or TRAINED)
    else:
        wanted = need(shape, level=level, context=context or CONTEXT, slots=slots)
        trials = _lighter(shape, level, context or CONTEXT, slots)
    free = psutil.virtual_memory().available
    fits = wanted.total <= free
    advice = "" if fits else _advice(trials, free)
    data = {
        "model": shape.source,
        "basis": shape.basis,
        "parts": to_dict(wanted.parts),
        "total": wanted.total,
        "free": free,
        "fits": fits,
        "try": advice,
    }
    return Result(data=data, text=_table(shape, wanted, free, advice), exit_code=0 if fits else 2)


def _training(shape: Shape, method: Method, context: int) -> Need:
    fast = hardware.read().fast_bfloat16 or method == "qlora"
    precision: Precision = "bfloat16" if fast else "float32"
    return training(
        shape,
        method=method,
        rank=RANK,
        tokens=ROWS * context,
        precision=precision,
        length=context,
    )


def _lighter(shape: Shape, level: str, context: int, slots: int) -> Iterator[_Trial]:
    """Ways to need less, the least painful first."""
    for lower in LEVELS[LEVELS.index(level) + 1 if level else -1 :]:
        yield f"--level {lower}", need(shape, level=lower, context=context, slots=slots)
    least = LEVELS[-1]
    if slots > 1:
        words = f"--level {least} --slots 1"
        yield words, need(shape, level=least, context=context, slots=1)
    if context > 1024:
        words = f"--level {least} --slots 1 --context 1024"
        yield words, need(shape, level=least, context=1024, slots=1)
    for words, smaller in _smaller(shape):
        yield (
            f"{words} (--level {least} --slots 1 --context 1024)",
            need(smaller, level=least, context=1024, slots=1),
        )


def _lighter_training(shape: Shape, method: Method, context: int) -> Iterator[_Trial]:
    if method == "full":
        yield "--train lora", _training(shape, "lora", context)
    if method != "qlora":
        yield "--train qlora", _training(shape, "qlora", context)
    if context > 256:
        yield "--train qlora --context 256", _training(shape, "qlora", 256)
    for words, smaller in _smaller(shape):
        yield f"--train qlora and {words}", _training(smaller, "qlora", 256)


def _smaller(shape: Shape) -> Iterator[tuple[str, Shape]]:
    for billions in (32, 14, 7, 3, 1, 0.135):
        if billions * 1e9 < shape.weights:
            yield f"a model of {billions:g}B weights", from_weights(round(billions * 1e9))


def _advice(trials: Iterator[_Trial], free: int) -> str:
    return next((w for w, trial in trials if trial.total <= free), "a machine with more memory")


def _table(shape: Shape, wanted: Need, free: int, advice: str) -> str:
    rows = [
        f"  {part.name:16} {_gigabytes(part.size)}  {part.basis:9}  {part.how}"
        for part in wanted.parts
    ]
    verdict = f"does not fit; try {advice}" if advice else "fits"
    return "\n".join(
        [
            shape.source,
            *rows,
            f"  {'needed':16} {_gigabytes(wanted.total)}",
            f"  {'free here':16} {_gigabytes(free)}  measured",
            verdict,
        ]
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:8.2f} GB"
