"""Fine-tune a base model on a data set, loss on the answers alone, resumable."""

from __future__ import annotations

import json
import logging
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency import fingerprint, hardware
from residency.builds import Training, write_training
from residency.config import TrainSettings
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer
from residency.models.shape import stored_weights
from residency.progress import say
from residency.store import Draft, write_atomic
from residency.train import ranks, shards, weights
from residency.train.contradictions import check
from residency.train.job import Job
from residency.train.ladder import bounded, noticing, train_within_memory
from residency.train.plan import Plan, make_plan, row_order, suited_rate
from residency.train.retry import examine, train_until_sound
from residency.train.room import fit_memory
from residency.train.rows import Rows, open_rows, rows_of_text, write_rows
from residency.train.split import divide, stopwatch
from residency.train.trainer import last_checkpoint, make_trainer, stalled
from residency.train.workers import learn_together
from residency.types import Artifact, Record, to_dict, to_json

# Two validations an epoch: a kill then loses half an epoch at most, and stopping is early enough.
_VALIDATIONS_AN_EPOCH = 2
_VALIDATIONS = 16  # of a run at most: small models from nothing see their rows dozens of times
_LOGGED = 2000  # losses that a record keeps at most; of longer runs each is the mean of some steps
_WORDS = {
    "lora": "LoRA",
    "qlora": "QLoRA (NF4)",
    "full": "all weights",
    "distill": "all weights of a student, from a teacher's probabilities and the answers",
    "scratch": "all weights, from nothing",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """The data set's splits and the base model; for distillation from probabilities the `teacher`,
    and for a model from scratch, whose base is only a name, a text file to read as well."""

    dataset: Artifact
    base: BaseModel
    teacher: BaseModel | None = None
    corpus: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A model as training left it, and what was measured on the way."""

    model: Any
    figures: dict[str, Any]


def run(inputs: Inputs, settings: TrainSettings, out: Draft) -> Record:
    """Train an adapter, or the whole model; the figures have the plan, its reasons and the losses.

    Output `adapter` for methods lora and qlora and for distillation from answers, `model` for full,
    distillation from probabilities and scratch. A run that was killed goes on
    from its last whole checkpoint and ends with the same bytes. Raises `SettingsError` for settings
    that contradict each other, `MissingError` where memory, a GPU or a package lacks, and
    `RefusedError` when the loss is no number.
    """
    check(settings)
    prepare()
    job = Job(
        base=_begin(inputs, settings, out.path / "start"),
        dataset=inputs.dataset.path,
        settings=settings,
        folder=out.path,
        teacher=inputs.teacher.path if inputs.teacher else None,
    )
    tokenizer = load_tokenizer(job.base)

    def encode(length: int) -> Rows:
        more = rows_of_text(tokenizer, inputs.corpus) if inputs.corpus else ()
        return write_rows(tokenizer, job.dataset, job.rows, settings.turns, length, more)

    rows = encode(0)
    plan = _plan(job, rows)
    for reason in plan.reasons:
        say(f"  {reason}")

    def train(plan: Plan) -> dict[str, Any]:
        return learn_together(job, plan) if plan.processes > 1 else learn(job, plan)

    figures = train_within_memory(train, job, plan, longest=max(rows.lengths), shorten=encode)
    kind = "adapter" if plan.adapts else "model"
    outputs = {kind: (job.result, kind), "diagnosis": (job.diagnosis, "diagnosis")}
    return out.finish(outputs, {"parameters": stored_weights(job.base), **figures})


def _plan(job: Job, rows: Rows) -> Plan:
    """The plan of this run: that of before a kill, for it was made by the memory that was free."""
    kept = job.folder / "plan.json"
    if kept.exists():
        return Plan.from_dict(json.loads(kept.read_text(encoding="utf-8")))
    plan = make_plan(
        job.settings,
        parameters=stored_weights(job.base),
        lengths=rows.lengths,
        hardware=hardware.read().with_gpus(),
    )
    longest = max(rows.lengths)
    plan = fit_memory(plan, job.settings, job.base, longest)
    if job.settings.processes == 0 and plan.device == "cpu":
        steps = math.ceil(plan.epochs * len(rows.lengths) / plan.batch)
        plan = divide(job, plan, cores=plan.threads, longest=longest, steps=steps)
    write_atomic(kept, to_json(plan))
    return plan


def _begin(inputs: Inputs, settings: TrainSettings, folder: Path) -> Path:
    """The folder of the model that training begins with: the base model's, or one made here."""
    if settings.method == "scratch":
        from residency.train import scratch

        return scratch.begin(inputs.dataset.path, settings, inputs.corpus, folder)
    if inputs.teacher:
        from residency.train import student

        return student.begin(inputs.base.path, inputs.teacher.path, settings.student_layers, folder)
    return inputs.base.path


def prepare() -> None:
    """Keep libraries quiet that would talk over the progress."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    # It warns of a kernel that it would fetch from the hub, where it runs as well without.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def learn(job: Job, plan: Plan) -> dict[str, Any]:
    """Train by `plan`, and leave weights, fingerprint and words in `job.result`.

    Each process of several calls it; the first one writes. Returns the record's figures.
    """
    suited = suited_rate(plan.method, stored_weights(job.base))
    with noticing():
        sound = train_until_sound(train_once, job, plan, suited=suited)
    trained, plan = sound.trained, sound.plan
    figures = {"plan": to_dict(plan), **trained.figures}
    if shards.asked(trained.model):
        weights.save(trained.model, job.base, job.result)
        taken = _fingerprint_of(trained.model, job)
        figures |= examine(sound, trained.model, job, suited)
    if ranks.rank() == 0:
        fingerprint.write_fingerprint(job.result, taken)
        training = Training(method=plan.method, words=_in_words(plan, job.settings))
        write_training(job.result, training)
    return figures


def time_steps(job: Job, plan: Plan, steps: int) -> float:
    """Train for `steps` steps and leave nothing; the seconds of all but the first few."""
    watch = stopwatch(steps)
    train_once(job, plan, [watch])
    return float(watch.seconds)


def train_once(job: Job, plan: Plan, callbacks: Sequence[Any] = ()) -> Trained:
    """Load the model by `plan` and train it, from the last whole checkpoint if there is one.

    `callbacks` are transformers' `TrainerCallback`s.
    """
    import torch

    torch.set_num_threads(plan.threads)
    if plan.checkpointing:
        hardware.compact_heap()
    torch.manual_seed(job.settings.seed)
    rows = open_rows(job.rows)
    model = weights.load(job.base, plan)
    if plan.adapts:
        model = weights.with_adapter(model, plan, job.settings)
    order = row_order(rows.lengths, epochs=plan.epochs, batch=plan.batch, seed=job.settings.seed)
    with bounded(plan):
        trainer = make_trainer(
            model,
            load_tokenizer(job.base),
            {"train": rows.train.select(order), "validation": rows.validation},
            plan,
            schedule(job, plan, rows, len(order)),
            callbacks,
        )
        checkpoint = last_checkpoint(job.checkpoints)
        if checkpoint:
            say(f"  resuming at step {checkpoint.name.rpartition('-')[2]}")
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    figures = _figures(trainer.state, job.settings.patience)
    seen = order[: figures["steps"] * plan.batch]
    figures["tokens"] = sum(rows.lengths[row] for row in seen)
    figures["processes"] = ranks.world()
    if plan.sharded:
        figures["held"] = shards.held(model)
    if rows.shortened or rows.left_out:
        figures["long_rows"] = {"shortened": rows.shortened, "left_out": rows.left_out}
    return Trained(model=model, figures=figures)


def schedule(job: Job, plan: Plan, rows: Rows, shown: int) -> dict[str, Any]:
    """The `settings` of `make_trainer` for a run that shows `shown` rows."""
    steps = math.ceil(shown / plan.batch)
    validations = min(_VALIDATIONS, round(plan.epochs * _VALIDATIONS_AN_EPOCH))
    every = math.ceil(steps / max(1, validations))
    # A mean that spans a checkpoint would be another after a kill, so `every` is a multiple of it.
    log = math.ceil(steps / _LOGGED)
    return {
        "folder": job.checkpoints,
        "every": math.ceil(every / log) * log,
        "log": log,
        "patience": job.settings.patience,
        "seed": job.settings.seed,
        "prefix": rows.prefix,
        "teacher": job.teacher,
    }


def _figures(state: Any, patience: int) -> dict[str, Any]:
    """The losses and steps of a finished run, from the trainer's `state`.

    One that was killed after it had stopped early takes one step more, which is left out.
    """
    validated = [(h["step"], h["eval_loss"]) for h in state.log_history if "eval_loss" in h]
    losses_so_far = [loss for _, loss in validated]
    ends = (s for i, (s, _) in enumerate(validated, 1) if stalled(losses_so_far[:i], patience))
    end = next(ends, state.global_step)
    history = [h for h in state.log_history if h["step"] <= end]
    losses = {
        "train": [(h["step"], round(h["loss"], 4)) for h in history if "loss" in h],
        "validation": [(h["step"], round(h["eval_loss"], 4)) for h in history if "eval_loss" in h],
    }
    best = state.best_metric  # None where a run broke before its first validation
    return {
        "losses": losses,
        "best": {"step": state.best_global_step, "loss": None if best is None else round(best, 4)},
        "steps": end,
        "planned_steps": state.max_steps,
    }


def _in_words(plan: Plan, settings: TrainSettings) -> str:
    words = _WORDS[plan.method]
    if plan.adapts:
        variants = [n for n, on in (("DoRA", settings.dora), ("rsLoRA", settings.rslora)) if on]
        words = " with ".join([words, *variants])
        words += f": rank {plan.rank}, alpha {plan.alpha}, dropout {plan.dropout}"
    return words


def _fingerprint_of(model: Any, job: Job) -> fingerprint.Fingerprint:
    import torch

    model.eval()
    with torch.no_grad():
        return fingerprint.take_torch(
            model, load_tokenizer(job.base), fingerprint.probes(job.dataset)
        )
