"""Training that runs out of memory goes on with a lighter step, and says so.

The order is `residency.models.ladder`'s, after gradient checkpointing, which costs time alone. What
was changed stands in a file of the draft: a run that is killed meanwhile goes on from there.
"""

from __future__ import annotations

import contextlib
import gc
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from residency.errors import MissingError, OutOfMemory
from residency.models import ladder
from residency.progress import say
from residency.store import write_atomic
from residency.train.job import Job
from residency.train.plan import Plan
from residency.types import to_json

_FILE = "ladder.json"
_ROOM = 0.95  # of the free memory: what else runs must not be the one that is killed


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What was changed, in words, and the values that the plan has from then on."""

    words: str
    values: dict[str, Any]


@contextlib.contextmanager
def noticing() -> Iterator[None]:
    """Raise `OutOfMemory` for whatever torch raises when there is no memory left."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # It knows the many words that torch has for it on its many devices.
        from accelerate.utils.memory import should_reduce_batch_size

        if not (isinstance(error, MemoryError) or should_reduce_batch_size(error)):
            raise
        words = str(error).partition("\n")[0]
        raise OutOfMemory(f"training ran out of memory: {words}".rstrip(": ")) from None


def train_within_memory(
    train: Callable[[Plan], dict[str, Any]],
    job: Job,
    plan: Plan,
    *,
    longest: int,
    shorten: Callable[[int], object],
) -> dict[str, Any]:
    """Call `train` with lighter plans until one fits; its figures, and under `ladder` what changed.

    `longest` is the longest row in tokens, and `shorten` encodes the rows anew to a length. Raises
    `MissingError` at the end of the ladder.
    """
    while True:
        changes = _read(job.folder)
        now = plan
        for change in changes:
            now = now.changed(f"{change.words}: training ran out of memory", **change.values)
        if now.length:
            shorten(now.length)
        try:
            figures = train(now)
        except OutOfMemory as error:
            say(f"  {error.message}")
        else:
            return {**figures, "ladder": [change.words for change in changes]}
        gc.collect()  # the model of the step that failed
        following = lighter(now, longest=longest, may_checkpoint=_may_checkpoint(job))
        if following is None:
            raise MissingError(
                "training ran out of memory with the lightest step that there is: "
                + ", ".join(change.words for change in changes),
                hint="take a smaller base model, or qlora; see what fits with: residency fit",
            )
        say(f"    going on with {following.words}")
        _start_anew(job, now, following)
        write_atomic(job.folder / _FILE, to_json([*changes, following]) + "\n")


def lighter(plan: Plan, *, longest: int, may_checkpoint: bool) -> Change | None:
    """The next change to a plan that was too heavy; None where there is none."""
    if may_checkpoint and not plan.checkpointing:
        return Change(words="gradient checkpointing on", values={"checkpointing": True})
    load = ladder.Load(
        rows=plan.rows_at_once,
        accumulation=plan.accumulation,
        length=plan.length or longest,
        rank=plan.rank,
    )
    rung = ladder.lighter(load)
    if rung is None:
        return None
    below = rung.load
    if below.length != load.length:
        return Change(words=rung.words, values={"length": below.length})
    if below.rank != load.rank:
        alpha = max(1, plan.alpha * below.rank // load.rank)
        return Change(words=rung.words, values={"rank": below.rank, "alpha": alpha})
    batch = below.rows * below.accumulation * plan.processes
    return Change(words=rung.words, values={"batch": batch, "accumulation": below.accumulation})


def _may_checkpoint(job: Job) -> bool:
    return job.settings.checkpointing is None


def _start_anew(job: Job, plan: Plan, change: Change) -> None:
    """Drop the checkpoints that a run by the changed plan could not go on from."""
    if all(getattr(plan, name) == value or name in _FREE for name, value in change.values.items()):
        return
    for path in job.folder.glob("checkpoints*"):
        shutil.rmtree(path)
    (job.folder / "retries.json").unlink(missing_ok=True)


# What may change without a change in what is learnt.
_FREE = ("checkpointing", "accumulation")


def _read(folder: Path) -> list[Change]:
    path = folder / _FILE
    if not path.exists():
        return []
    return [Change(**values) for values in json.loads(path.read_text(encoding="utf-8"))]


@contextlib.contextmanager
def bounded(plan: Plan) -> Iterator[None]:
    """Let this process ask for no more memory than is free: Linux grants more, and when it is used
    kills without a word, while a request that is refused can be answered.

    To be entered when the model is loaded: until then its files are mapped, which counts as if all
    of them were held, and need not fit.
    """
    if not sys.platform.startswith("linux") or plan.device != "cpu" or plan.processes > 1:
        yield
        return
    import resource

    held = psutil.Process().memory_info().data
    most = held + round(_ROOM * psutil.virtual_memory().available)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    lower = [limit for limit in (most, *before) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(lower), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
