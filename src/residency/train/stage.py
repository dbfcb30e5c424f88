"""Fine-tune a base model on a data set: LoRA, loss on the answer alone, resumable."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency import fingerprint, hardware
from residency.config import TrainSettings
from residency.conversations import read_conversations
from residency.errors import RefusedError
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer, render
from residency.models.shape import stored_weights
from residency.progress import say
from residency.store import Draft
from residency.train.batch import IGNORED, shared_prefix
from residency.train.plan import Plan, make_plan, row_order
from residency.train.trainer import last_checkpoint, make_trainer
from residency.types import Artifact, Conversation, Record, to_dict

# Two validations an epoch: a kill then loses half an epoch at most, and stopping is early enough.
_VALIDATIONS_AN_EPOCH = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """The data set's splits and the base model."""

    dataset: Artifact
    base: BaseModel


def run(inputs: Inputs, settings: TrainSettings, out: Draft) -> Record:
    """Train an adapter; the record's figures have the plan, its reasons and the losses.

    A run that was killed goes on from its last whole checkpoint and ends with the same bytes.
    Raises `RefusedError` when the loss is no number.
    """
    _quieten()
    import torch

    machine = hardware.read()
    tokenizer = load_tokenizer(inputs.base.path)
    splits = {
        name: read_conversations(inputs.dataset.path / f"{name}.jsonl")
        for name in ("train", "validation")
    }
    rows = {name: encode(tokenizer, split) for name, split in splits.items()}
    parameters = stored_weights(inputs.base.path)
    lengths = [len(row["input_ids"]) for row in rows["train"]]
    plan = make_plan(settings, parameters=parameters, lengths=lengths, hardware=machine)
    for reason in plan.reasons:
        say(f"  {reason}")
    torch.set_num_threads(plan.threads)
    torch.manual_seed(settings.seed)
    model = _with_adapter(_load(inputs.base.path, plan), plan, settings)
    figures = _train(model, tokenizer, rows, (plan, settings), out.path)
    folder = out.path / "adapter"
    _save(model, folder)
    _take_fingerprint(model, tokenizer, inputs, folder)
    return out.finish(
        {"adapter": (folder, "adapter")},
        {"plan": to_dict(plan), "parameters": parameters, **figures},
    )


def encode(tokenizer: Any, conversations: Sequence[Conversation]) -> list[dict[str, list[int]]]:
    """Each conversation as `input_ids` and `labels`, -100 wherever there is nothing to learn."""
    rows = []
    for one in conversations:
        got = render(tokenizer, one.messages, answer=True)
        labels = [i if keep else IGNORED for i, keep in zip(got.ids, got.learnt, strict=True)]
        rows.append({"input_ids": list(got.ids), "labels": labels})
    return rows


def _quieten() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def _load(folder: Path, plan: Plan) -> Any:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, plan.precision))


def _with_adapter(model: Any, plan: Plan, settings: TrainSettings) -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        model,
        LoraConfig(
            r=plan.rank,
            lora_alpha=plan.alpha,
            lora_dropout=plan.dropout,
            target_modules=settings.target_modules,
            task_type="CAUSAL_LM",
        ),
    )


def _train(
    model: Any,
    tokenizer: Any,
    rows: dict[str, list[dict[str, list[int]]]],
    how: tuple[Plan, TrainSettings],
    folder: Path,
) -> dict[str, Any]:
    from datasets import Dataset

    plan, settings = how
    lengths = [len(row["input_ids"]) for row in rows["train"]]
    order = row_order(lengths, epochs=plan.epochs, batch=plan.batch, seed=settings.seed)
    steps = math.ceil(len(order) / plan.batch)
    every = math.ceil(steps / max(1, round(plan.epochs * _VALIDATIONS_AN_EPOCH)))
    trainer = make_trainer(
        model,
        tokenizer,
        {
            "train": Dataset.from_list([rows["train"][i] for i in order]),
            "validation": Dataset.from_list(rows["validation"]),
        },
        plan,
        {
            "folder": folder / "checkpoints",
            "every": every,
            "patience": settings.patience,
            "seed": settings.seed,
            "prefix": shared_prefix([*rows["train"], *rows["validation"]]),
        },
    )
    checkpoint = last_checkpoint(folder / "checkpoints")
    if checkpoint:
        say(f"  resuming at step {checkpoint.name.rpartition('-')[2]}")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    history = trainer.state.log_history
    losses = {
        "train": [(h["step"], round(h["loss"], 4)) for h in history if "loss" in h],
        "validation": [(h["step"], round(h["eval_loss"], 4)) for h in history if "eval_loss" in h],
    }
    best = trainer.state.best_metric
    if best is None or math.isnan(best):
        raise RefusedError(
            "training diverged: the validation loss is no number",
            hint="lower learning_rate in [train], and look for damaged rows with: "
            "residency data preview",
        )
    return {
        "losses": losses,
        "best": {"step": trainer.state.best_global_step, "loss": round(best, 4)},
        "steps": trainer.state.global_step,
        "planned_steps": trainer.state.max_steps,
        "tokens": sum(lengths[i] for i in order[: trainer.state.global_step * plan.batch]),
    }


def _save(model: Any, folder: Path) -> None:
    """The adapter without what differs by machine or by run: the path of its base model, and the
    order of a set."""
    config = model.peft_config["default"]
    config.base_model_name_or_path = ""
    config.target_modules = sorted(config.target_modules)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)


def _take_fingerprint(model: Any, tokenizer: Any, inputs: Inputs, folder: Path) -> None:
    import torch

    model.eval()
    probes = fingerprint.probes(inputs.dataset.path)
    with torch.no_grad():
        taken = fingerprint.take_torch(model, tokenizer, probes)
    fingerprint.write_fingerprint(folder, taken)
