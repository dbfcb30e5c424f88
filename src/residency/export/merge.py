"""Fold an adapter into its base model: one Hugging Face folder in float16."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

from residency.errors import ModelError

# Everything that decides how text becomes tokens and where an answer ends; weights and config.json
# are written anew.
COPIED = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)


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
    merged.half()
    merged.save_pretrained(target)
    copy_tokenizer(base, target)
    return merged.float()


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy tokenizer, chat template and sampler settings from model folder to model folder."""
    for name in COPIED:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
