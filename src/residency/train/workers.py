"""Several processes that train together, each with its share of every step's rows."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from residency import errors
from residency.config import TrainSettings
from residency.engines.host import free_port
from residency.errors import ResidencyError
from residency.store import write_atomic
from residency.train.job import Job
from residency.train.plan import Plan
from residency.types import to_json

_JOB, _OUTCOME = "job.json", "outcome.json"
_LOOK = 0.2  # seconds between looks at the processes
_HOST = "127.0.0.1"
_STDERR = 2


def learn_together(job: Job, plan: Plan) -> dict[str, Any]:
    """Have `plan.processes` processes do what `stage.learn` does in one. Returns its figures.

    Raises what the first of them met, and `ResidencyError` where one died.
    """
    return _together(job, plan, timed_steps=0)


def time_together(job: Job, plan: Plan, steps: int) -> float:
    """Have `plan.processes` processes train for `steps` steps that leave nothing. Returns the
    seconds that they took after the first few."""
    return float(_together(job, plan, timed_steps=steps)["seconds"])


def _together(job: Job, plan: Plan, *, timed_steps: int) -> dict[str, Any]:
    settings = job.settings.model_dump(mode="json", exclude_unset=True)
    values = {
        "base": job.base,
        "dataset": job.dataset,
        "teacher": job.teacher,
        "plan": plan,
        "settings": settings,
        "timed_steps": timed_steps,
    }
    write_atomic(job.folder / _JOB, to_json(values))
    (job.folder / _OUTCOME).unlink(missing_ok=True)
    with _running(job.folder, plan) as processes:
        while all(process.poll() is None for process in processes):
            time.sleep(_LOOK)
        if not any(process.poll() for process in processes):
            for process in processes:
                process.wait()
    return _outcome(job.folder, [process.returncode for process in processes])


@contextlib.contextmanager
def _running(folder: Path, plan: Plan) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes at work; those that still are at the end are killed."""
    shared = {
        **os.environ,
        "WORLD_SIZE": str(plan.processes),
        "LOCAL_WORLD_SIZE": str(plan.processes),
        "MASTER_ADDR": _HOST,
        "MASTER_PORT": str(free_port()),
        "GLOO_SOCKET_IFNAME": "lo",  # else gloo listens where the host's name points
        "OMP_NUM_THREADS": str(plan.threads),
    }
    command = [sys.executable, "-m", "residency.train.worker", str(folder)]
    with contextlib.ExitStack() as stack:
        processes = []
        for rank in range(plan.processes):
            # The first one tells of the progress; of the others it would be the same again.
            log = _STDERR if rank == 0 else stack.enter_context(_log(folder, rank).open("wb"))
            environment = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process)
        yield processes


def _log(folder: Path, rank: int) -> Path:
    return folder / f"process-{rank}.log"


def read_job(folder: Path) -> tuple[Job, Plan, int]:
    """The job, the plan and the number of steps to time (0: train to the end) that lie in
    `folder`."""
    values = json.loads((folder / _JOB).read_text(encoding="utf-8"))
    job = Job(
        base=Path(values["base"]),
        dataset=Path(values["dataset"]),
        settings=TrainSettings.model_validate(values["settings"]),
        folder=folder,
        teacher=Path(values["teacher"]) if values["teacher"] else None,
    )
    return job, Plan.from_dict(values["plan"]), values["timed_steps"]


def write_outcome(
    folder: Path, *, figures: dict[str, Any] | None = None, error: ResidencyError | None = None
) -> None:
    """Leave figures, or an error in words, for the process that started this one."""
    failed = error and {
        "kind": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
    }
    write_atomic(folder / _OUTCOME, to_json({"figures": figures, "error": failed}))


def _outcome(folder: Path, codes: list[int]) -> dict[str, Any]:
    path = folder / _OUTCOME
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if failed := found.get("error"):
        raise getattr(errors, failed["kind"])(failed["message"], hint=failed["hint"])
    if any(codes) or not found:
        rank = next((rank for rank, code in enumerate(codes) if code), 0)
        log = _log(folder, rank)
        tail = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
        raise ResidencyError(
            f"training process {rank} of {len(codes)} ended with code {codes[rank]}"
            + "".join(f": {line}" for line in tail),
            hint="run it again: it goes on from the last checkpoint; processes = 1 needs less",
        )
    figures: dict[str, Any] = found["figures"]
    return figures
