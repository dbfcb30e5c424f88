"""A run that breaks goes back to its last good checkpoint and on at a lower rate, twice at most.

What was tried stands in a file of the draft, so that a run which is killed while it retries goes on
with the same rate and ends with the same bytes.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from residency.errors import RefusedError
from residency.models.chat import load_tokenizer
from residency.progress import say
from residency.store import write_atomic
from residency.train import checkup, ranks
from residency.train.causes import Finding, of_rate
from residency.train.checkup import Before
from residency.train.diagnosis import Diagnosis, History, Retry, diagnose
from residency.train.job import Job
from residency.train.plan import Plan
from residency.train.trainer import COMPLETE
from residency.train.watching import doctor, tell
from residency.types import to_dict, to_json

Trained = TypeVar("Trained")

RETRIES = 2
_FILE = "retries.json"
_STATE, _OPTIMIZER, _SCHEDULER = "trainer_state.json", "optimizer.pt", "scheduler.pt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sound(Generic[Trained]):
    """A try that did not break: what `train` returned, by which plan, and how it went."""

    trained: Trained
    plan: Plan
    before: Before
    history: History
    diagnosis: Diagnosis
    retries: tuple[Retry, ...]


def train_until_sound(
    train: Callable[[Job, Plan, Sequence[Any]], Trained], job: Job, plan: Plan, *, suited: float
) -> Sound[Trained]:
    """Call `train` until what it does does not break. It takes callbacks of transformers' Trainer,
    and resumes from the job's checkpoints.

    `suited` is the learning rate that suits the model. Each process of several calls this, and all
    see the same losses. Raises `RefusedError` when the third try breaks too.
    """
    while True:
        retries = read_retries(job.folder)
        now = dataclasses.replace(job, retry=len(retries))
        by = _lowered(plan, retries)
        watching = doctor(now, by)
        trained = train(now, by, [watching])
        found = diagnose(watching.history)
        if found.state != "exploding":
            if ranks.rank() == 0:
                tell(found)
            return Sound(
                trained=trained,
                plan=by,
                before=watching.before,
                history=watching.history,
                diagnosis=found,
                retries=tuple(retries),
            )
        if len(retries) == RETRIES:
            rates = ", ".join(f"{retry.rate:g}" for retry in retries)
            raise RefusedError(
                f"training diverged at learning rates {rates} and {by.learning_rate:g}: "
                f"{found.words}",
                hint=found.remedy,
            )
        del trained  # the next try loads the model anew
        gc.collect()
        if ranks.rank() == 0:
            _give_up(now, by, found, watching.before.start.loss, suited)
        ranks.barrier()


def examine(sound: Sound[Trained], model: Any, job: Job, suited: float) -> dict[str, Any]:
    """Look at what was learnt, and for causes of how it went; all of it into `job.diagnosis`.

    Returns what the record keeps of it: no texts of the data.
    """
    tokenizer = load_tokenizer(job.base)
    found = checkup.after(model, tokenizer, job, sound.before)
    rate = sound.retries[0].rate if sound.retries else sound.plan.learning_rate
    causes = [*of_rate(rate, suited, sound.diagnosis), *checkup.causes_of(tokenizer, job)]
    if ranks.rank() == 0:
        shown = {**found, "causes": causes}
        checkup.write(job.diagnosis, sound.history, sound.diagnosis, sound.retries, shown)
    for one in (*causes, *found["findings"]):
        say(f"  {one.name}: {one.words}")
    return {
        "diagnosis": to_dict(sound.diagnosis),
        "retries": to_dict(sound.retries),
        "causes": [_counted(one) for one in causes],
        "answers": [_counted(one) for one in found["findings"]],
        "general": found["general"],
    }


def _counted(one: Finding) -> dict[str, Any]:
    return {"name": one.name, "count": one.count, "total": one.total}


def _lowered(plan: Plan, retries: Sequence[Retry]) -> Plan:
    if not retries:
        return plan
    rate = retries[-1].next_rate
    why = f"learning rate {rate:g}: {retries[-1].rate:g} broke"
    return plan.changed(why, learning_rate=rate)


def _give_up(job: Job, plan: Plan, found: Diagnosis, start: float, suited: float) -> None:
    """Lay out the next try, and only then write down that there is one."""
    rate = plan.learning_rate
    lower = lower_rate(rate, suited)
    following = dataclasses.replace(job, retry=job.retry + 1)
    step = go_back(job.checkpoints, following.checkpoints, start=start, rate=lower, was=rate)
    retry = Retry(rate=rate, words=found.words, back_to=step, next_rate=lower)
    write_atomic(job.folder / _FILE, to_json([*read_retries(job.folder), retry]) + "\n")
    say(f"  exploding: {found.words}")
    say(f"    going back to step {step}, and on at learning rate {lower:g} instead of {rate:g}")


def lower_rate(rate: float, suited: float) -> float:
    """Half of `rate`, or what suits the model's size where that is lower still."""
    return min(rate / 2, suited)


def read_retries(folder: Path) -> list[Retry]:
    """The tries that broke so far."""
    path = folder / _FILE
    if not path.exists():
        return []
    return [Retry(**values) for values in json.loads(path.read_text(encoding="utf-8"))]


def go_back(broken: Path, target: Path, *, start: float, rate: float, was: float) -> int:
    """Copy the best checkpoint in `broken` to `target`, its learning rate `rate` where it `was`.

    Returns its step; 0 where none was better than `start`, the loss before training, or where its
    optimizer is not in one file: then training begins anew.
    """
    shutil.rmtree(target, ignore_errors=True)
    good = _best(broken, start)
    if good is None:
        return 0
    copied = target / good.name
    shutil.copytree(good, copied)
    _set_rate(copied, rate, rate / was)
    state = _state(copied)
    state["best_model_checkpoint"] = str(copied)
    write_atomic(copied / _STATE, json.dumps(state, indent=2, sort_keys=True) + "\n")
    return int(state["global_step"])


def _best(folder: Path, start: float) -> Path | None:
    found = []
    for path in folder.glob("checkpoint-*"):
        if all((path / name).exists() for name in (COMPLETE, _OPTIMIZER, _SCHEDULER)):
            losses = [h["eval_loss"] for h in _state(path)["log_history"] if "eval_loss" in h]
            if losses and math.isfinite(losses[-1]) and losses[-1] < start:
                found.append((losses[-1], path))
    return min(found)[1] if found else None


def _set_rate(checkpoint: Path, rate: float, times: float) -> None:
    """Change the rate in a checkpoint: transformers takes it from there, not from the settings."""
    import torch

    optimizer = torch.load(checkpoint / _OPTIMIZER, weights_only=True)
    for group in optimizer["param_groups"]:
        group["lr"] *= times
        group["initial_lr"] = rate
    torch.save(optimizer, checkpoint / _OPTIMIZER)
    scheduler = torch.load(checkpoint / _SCHEDULER, weights_only=True)
    scheduler["base_lrs"] = [rate for _ in scheduler["base_lrs"]]
    scheduler["_last_lr"] = [last * times for last in scheduler["_last_lr"]]
    torch.save(scheduler, checkpoint / _SCHEDULER)


def _state(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    return state
