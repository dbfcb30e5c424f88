"""How the cores are best divided: a few processes with a few threads each, or one with all.

Matrices of a small model are too small to keep many threads busy, and processes share nothing but
their gradients; which wins depends on model, rows and machine. So a few steps are timed each way.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

from residency.errors import MissingError
from residency.progress import say
from residency.train.job import Job
from residency.train.plan import Plan
from residency.train.room import fit_memory
from residency.train.workers import time_together

# Steps that are not timed, as libraries and caches are cold in them; and those that are.
_COLD, _TIMED = 2, 6
_WORTH_IT = 10 * (_COLD + _TIMED)


def divide(job: Job, plan: Plan, *, cores: int, longest: int, steps: int) -> Plan:
    """`plan` with the number of processes that took least for the same steps, and the reason.

    A run of so few `steps` that timing them would take as long stays in one process.
    """
    seconds: dict[int, float] = {}
    if steps < _WORTH_IT:
        return plan
    for tried in _fitting(job, plan, cores, longest):
        say(f"  timing {_words(tried)}")
        seconds[tried.processes] = time_together(job, tried, _COLD + _TIMED)
    if not seconds:
        return plan
    best = min(seconds, key=lambda processes: seconds[processes])
    chosen = _split(plan, best, cores)
    times = ", ".join(f"{count}: {value:.2f}" for count, value in seconds.items())
    reason = f"{_words(chosen)}: seconds for {_TIMED} steps by processes: {times}"
    return chosen.changed(reason)


def _fitting(job: Job, plan: Plan, cores: int, longest: int) -> Iterator[Plan]:
    """Plans of one process and more that share the batch and have room in memory."""
    for count in range(1, cores + 1):
        if cores % count == 0 and plan.batch % count == 0:
            tried = _split(plan, count, cores)
            try:
                fitted = fit_memory(tried, job.settings, job.base, longest)
            except MissingError:
                return
            if fitted.checkpointing == plan.checkpointing:
                yield tried


def _split(plan: Plan, processes: int, cores: int) -> Plan:
    return dataclasses.replace(plan, processes=processes, threads=cores // processes)


def _words(plan: Plan) -> str:
    threads = f"{plan.threads} thread{'s' if plan.threads > 1 else ''}"
    if plan.processes == 1:
        return f"1 process with {threads}"
    return f"{plan.processes} processes with {threads} each"


def stopwatch(steps: int) -> Any:
    """A callback for transformers' Trainer that ends a run after `steps` steps and leaves nothing;
    afterwards `seconds` has what those after the first few took."""
    from transformers import TrainerCallback

    class Stopwatch(TrainerCallback):
        seconds = 0.0
        _start = 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_evaluate = control.should_save = False
            if state.global_step == _COLD:
                self._start = time.perf_counter()
            if state.global_step == steps:
                self.seconds = time.perf_counter() - self._start
                control.should_training_stop = True

    return Stopwatch()
