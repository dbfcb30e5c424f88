"""Fold an adapter into its base model: one Hugging Face folder in float16."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from residency.errors import ModelError
from residency.models.folder import copy_tokenizer


def load(folder: Path) -> Any:
    """The model of a Hugging Face folder, in float32."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def merge(base: Path, adapter: Path, target: Path) -> Any:
    """Write the merged model to the folder `target` and return it, in float32.

    The sum is taken in float32 and stored as float16; the same inputs give the same bytes. Raises
    `ModelError` when the adapter does not fit the base.
    """
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            # peft calls what transformers will rename.
            warnings.simplefilter("ignore", FutureWarning)
            merged = PeftModel.from_pretrained(load(base), adapter).merge_and_unload()
    except (RuntimeError, ValueError, KeyError) as error:
        raise ModelError(
            f"{adapter}: this adapter does not fit the base model in {base}: {error}",
            hint="train again with: residency run train",
        ) from error
    return _write(merged, base, target)


def store(model: Path, target: Path) -> Any:
    """The same for a whole model, to which nothing is added."""
    return _write(load(model), model, target)


def _write(model: Any, tokenizer_from: Path, target: Path) -> Any:
    import torch

    _cast(model, torch.float16)
    model.save_pretrained(target)
    copy_tokenizer(tokenizer_from, target)
    _cast(model, torch.float32)
    return model


def _cast(model: Any, dtype: Any) -> None:
    """Weights alone: what turns positions is no weight, and rounded to float16 it would be wrong
    by more the longer the text."""
    for weights in model.parameters():
        weights.data = weights.data.to(dtype)
