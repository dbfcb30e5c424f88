"""Whether a model fits in this machine's memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from residency import hardware
from residency.cli import Result
from residency.models import formats, ladder
from residency.models.memory import Method, Need, Precision, Step, need, training
from residency.models.shape import Shape, from_weights, read_shape
from residency.types import to_dict

# Levels to go down by; below the last one too much of the quality is lost to advise it.
_ADVISED = ("f16", "Q8_0", "Q5_K_M", "Q4_K_M")
RANK, ROWS = 16, 4  # LoRA's rank and the rows of a step that training takes without settings
CONTEXT, TRAINED = 2048, 512  # tokens for an answer, and of a row in training
_SIZES = (32, 14, 7, 3, 1, 0.135)  # of smaller models, in billions of weights


@dataclass(frozen=True, kw_only=True, slots=True)
class _Trial:
    """A way to need less, in words, and what it needs."""

    words: str
    need: Need


def fit(
    workspace: Path,
    model: str,
    context: int | None,
    parallel: int,
    level: str | None,
    train: Method | None,
    rank: int,
    batch: int,
) -> Result:
    """Say what MODEL needs, part by part, and whether that is free; exit code 2 where it is not.

    `context` is in tokens, of each of `parallel` answers or of a row of training; without a `level`
    a GGUF file is taken as it is, and anything else at Q4_K_M. `rank` and `batch` are training's.
    """
    local = workspace / model
    shape = read_shape(str(local) if local.exists() else model)
    level = level or ("" if shape.file_size else "Q4_K_M")
    free = psutil.virtual_memory().available
    if train:
        step = _step(train, rank=rank, rows=batch, length=context or TRAINED)
        if training(shape, step).total > free:  # then training turns it on by itself
            step = replace(step, checkpointed=True)
        wanted, trials = training(shape, step), _lighter_training(shape, step)
    else:
        wanted = need(shape, level=level, context=context or CONTEXT, slots=parallel)
        trials = _lighter(shape, level, context or CONTEXT, parallel)
    fits = wanted.total <= free
    advice = "" if fits else _advice(trials, free)
    data = {
        "model": shape.source,
        "basis": shape.basis,
        "attention": shape.attention,
        "formats": formats.sizes(shape),
        "parts": to_dict(wanted.parts),
        "total": wanted.total,
        "free": free,
        "fits": fits,
        "try": advice,
    }
    return Result(data=data, text=_table(shape, wanted, free, advice), exit_code=0 if fits else 2)


def _step(method: Method, *, rank: int, rows: int, length: int) -> Step:
    """As training would take it: all weights in float32, whatever the processor."""
    fast = method == "qlora" or (method == "lora" and hardware.read().fast_bfloat16)
    precision: Precision = "bfloat16" if fast else "float32"
    return Step(method=method, rank=rank, rows=rows, length=length, precision=precision)


def _lighter(shape: Shape, level: str, context: int, parallel: int) -> Iterator[_Trial]:
    """Ways to need less for answers, the least painful first."""
    least = _ADVISED[-1]

    def trial(words: str, shape: Shape, context: int, slots: int, level: str = least) -> _Trial:
        return _Trial(words=words, need=need(shape, level=level, context=context, slots=slots))

    for lower in _ADVISED[_ADVISED.index(level) + 1 if level in _ADVISED else -1 :]:
        yield trial(f"--level {lower}", shape, context, parallel, lower)
    one = f"--level {least} --parallel 1"
    if parallel > 1:
        yield trial(one, shape, context, 1)
    if context > 1024:
        yield trial(f"{one} --context 1024", shape, 1024, 1)
    for words, smaller in _smaller(shape):
        yield trial(f"{words} ({one} --context 1024)", smaller, 1024, 1)


def _lighter_training(shape: Shape, step: Step) -> Iterator[_Trial]:
    """Ways to need less for training than a checkpointed step, the least painful first."""
    load = ladder.Load(
        rows=step.rows,
        accumulation=step.accumulation,
        length=step.length,
        rank=0 if step.method == "full" else step.rank,
    )
    for rung in ladder.rungs(load):
        step = _at(step, rung.load)
        yield _Trial(words=f"{_flags(step)} ({rung.words})", need=training(shape, step))
    for method in ("lora", "qlora"):
        if step.method not in (method, "qlora"):
            lighter = _step(method, rank=ladder.LEAST_RANK, rows=1, length=step.length)
            step = replace(lighter, accumulation=step.accumulation, checkpointed=True)
            yield _Trial(words=_flags(step), need=training(shape, step))
    for words, smaller in _smaller(shape):
        yield _Trial(words=f"{words} ({_flags(step)})", need=training(smaller, step))


def _at(step: Step, load: ladder.Load) -> Step:
    rank = load.rank or step.rank
    rows, accumulation = load.rows, load.accumulation
    return replace(step, rows=rows, accumulation=accumulation, length=load.length, rank=rank)


def _flags(step: Step) -> str:
    rank = "" if step.method == "full" else f" --rank {step.rank}"
    return f"--train {step.method} --batch {step.rows} --context {step.length}{rank}"


def _smaller(shape: Shape) -> Iterator[tuple[str, Shape]]:
    for billions in _SIZES:
        if billions * 1e9 < shape.weights:
            yield f"a model of {billions:g}B weights", from_weights(round(billions * 1e9))


def _advice(trials: Iterator[_Trial], free: int) -> str:
    fitting = (trial.words for trial in trials if trial.need.total <= free)
    return next(fitting, "a machine with more memory")


def _table(shape: Shape, wanted: Need, free: int, advice: str) -> str:
    rows = [
        f"  {part.name:16} {_gigabytes(part.size)}  {part.basis:9}  {part.how}"
        for part in wanted.parts
    ]
    verdict = f"does not fit; try {advice}" if advice else "fits"
    sizes = ", ".join(f"{form} {size / 1e9:.2f}" for form, size in formats.sizes(shape).items())
    return "\n".join(
        [
            shape.source,
            f"  {shape.layers} layers, {shape.attention}",
            f"  weights in GB: {sizes}",
            *rows,
            f"  {'needed':16} {_gigabytes(wanted.total)}",
            f"  {'free here':16} {_gigabytes(free)}  measured",
            verdict,
        ]
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:8.2f} GB"
