"""TRL's trainer with the loss taken where there is something to learn, and progress in words."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from residency.progress import Progress
from residency.train import ranks, shards
from residency.train.batch import IGNORED, Batches
from residency.train.distill import load_teacher, student_loss
from residency.train.plan import WARM_UP, Plan

COMPLETE = "complete"
# Of gradients' squares, where weights begin at random and move far (Liu et al. 2019, RoBERTa).
_SHORT_MEMORY = 0.98


def answer_loss(model: Any, inputs: Mapping[str, Any], count: Any = None) -> Any:
    """Mean cross-entropy over the answers' tokens, with logits made at their positions alone.

    `inputs` are those of `batch.Batches`; `count` is the number of learnt tokens to divide by, that
    of this batch if not given. TRL 1.16 skips the other positions only where Triton runs; on a CPU
    the head over a vocabulary of 49,152 at every position is half of the work.
    """
    import torch
    from torch.nn.functional import cross_entropy

    learnt = inputs["labels"] != IGNORED
    positions = learnt.any(dim=0).nonzero().flatten()
    output = model(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        position_ids=inputs["position_ids"],
        logits_to_keep=positions,
        use_cache=False,
    )
    kept = learnt[:, positions]
    logits = output.logits[kept].float()
    total = cross_entropy(logits, inputs["labels"][:, positions][kept], reduction="sum")
    return total / torch.as_tensor(learnt.sum() if count is None else count).clamp(min=1)


def make_trainer(
    model: Any,
    tokenizer: Any,
    splits: Mapping[str, Any],
    plan: Plan,
    settings: Mapping[str, Any],
    callbacks: Sequence[Any] = (),
) -> Any:
    """A trainer over `splits` (`train` in the order of the run, and `validation`).

    `settings` has `folder` for checkpoints, `every` (steps between validations, a multiple of
    `log`, those between logged losses), `patience`, `seed`, `prefix` (tokens that all rows begin
    with) and `teacher`, the folder of one whose probabilities are learnt, or None. Rows have
    `input_ids` and `labels`. `callbacks` are transformers', beside our own.
    """
    from transformers import PrinterCallback

    teacher: Path | None = settings["teacher"]

    class AnswerTrainer(shards.trainer_of(_trainer_of(teacher), plan)):  # type: ignore[misc]
        def compute_loss(
            self,
            model: Any,
            inputs: Mapping[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            if teacher and model.training:
                apart = self.generalized_jsd_loss
                loss = student_loss(model, self.teacher_model, inputs, apart, num_items_in_batch)
            else:
                loss = answer_loss(model, inputs, num_items_in_batch)
            if num_items_in_batch is not None:
                # That counts the tokens of all processes, whose gradients are then averaged.
                loss = loss * self.accelerator.num_processes
            return (loss, {}) if return_outputs else loss

    trainer = AnswerTrainer(
        model=model,
        args=_arguments(plan, settings),
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        processing_class=tokenizer,
        **({"teacher_model": load_teacher(teacher, plan.precision)} if teacher else {}),
        data_collator=Batches(settings["prefix"]),
        callbacks=[_watcher(settings["patience"]), *callbacks],
    )
    # It writes to standard output, where `--json` promises one object and nothing else.
    trainer.remove_callback(PrinterCallback)
    return trainer


def _trainer_of(teacher: Path | None) -> Any:
    """TRL's trainer: with a teacher the one that has a place for it."""
    if teacher:
        from trl.experimental.gkd import GKDTrainer

        return GKDTrainer
    from trl.trainer.sft_trainer import SFTTrainer

    return SFTTrainer


def _config_of(teacher: Path | None) -> Any:
    if teacher:
        from trl.experimental.gkd import GKDConfig

        return functools.partial(GKDConfig, lmbda=0.0)  # the student writes no texts of its own
    from trl.trainer.sft_config import SFTConfig

    return SFTConfig


def _arguments(plan: Plan, settings: Mapping[str, Any]) -> Any:
    return _config_of(settings["teacher"])(
        output_dir=str(settings["folder"]),
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        per_device_train_batch_size=plan.rows_at_once,
        per_device_eval_batch_size=plan.rows_at_once,
        gradient_accumulation_steps=plan.accumulation,
        learning_rate=plan.learning_rate,
        adam_beta2=_SHORT_MEMORY if plan.method == "scratch" else 0.999,
        lr_scheduler_type="cosine",
        warmup_steps=WARM_UP,
        bf16=False,
        use_cpu=plan.device == "cpu",
        ddp_backend="gloo" if plan.device == "cpu" and plan.processes > 1 else None,
        ddp_find_unused_parameters=False,
        **shards.arguments(plan),
        gradient_checkpointing=plan.checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if plan.checkpointing else None,
        eval_strategy="steps",
        eval_steps=settings["every"],
        save_strategy="steps",
        save_steps=settings["every"],
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        prediction_loss_only=True,
        logging_steps=settings["log"],
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        seed=settings["seed"],
    )


def stalled(losses: Sequence[float], patience: int) -> bool:
    """Whether the last `patience` validation losses all failed to beat the best before them."""
    before, last = losses[:-patience], losses[-patience:]
    return bool(before) and min(last) >= min(before)


def validations(state: Any) -> list[float]:
    """The validation losses so far, from a trainer's state."""
    return [h["eval_loss"] for h in state.log_history if "eval_loss" in h]


def _watcher(patience: int) -> Any:
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):
        """Shows loss and time left, stops early, and marks a checkpoint that is whole.

        Stopping is decided from the logged history alone, so that a run which was killed after
        it had stopped stops again.
        """

        progress: Progress | None = None
        loss = ""  # in words, once one is known
        had_stalled = False

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.progress = Progress("training, steps", state.max_steps)
            self.progress.resume_at(state.global_step)
            self.had_stalled = stalled(validations(state), patience)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self.progress:
                self.progress.advance(note=self.loss)
            control.should_training_stop |= self.had_stalled

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop |= stalled(validations(state), patience)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                self.loss = f"loss {logs['loss']:.3f}"

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            ranks.barrier()  # each process has its own part in it
            if ranks.rank() == 0:
                (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()

    return Watcher()


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`; those that a kill cut short are deleted."""
    if ranks.rank() == 0:
        for path in folder.glob("checkpoint-*"):
            if not (path / COMPLETE).exists():
                shutil.rmtree(path)
    ranks.barrier()
    whole = folder.glob("checkpoint-*")
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
