"""Open a model so that its attention can be watched."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residency.errors import MissingError, ModelError
from residency.models.chat import load_tokenizer
from residency.models.shape import Shape, read_shape

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A model in memory, in float32. `importing` and `loading` are in seconds: of the libraries,
    and of the weights with the tokenizer."""

    name: str
    model: Any
    tokenizer: PreTrainedTokenizerBase
    shape: Shape
    importing: float
    loading: float


def open_model(folder: Path, name: str) -> Opened:
    """The model of a Hugging Face folder, called `name` on the page.

    Raises `MissingError` without torch and transformers, and `ModelError` for a model that they
    cannot load, or whose attention cannot be watched.
    """
    start = time.perf_counter()
    try:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging
    except ImportError as error:
        raise MissingError(
            f"{error.name} is not installed, and models are looked into with it",
            hint="pip install 'residency[train]'",
        ) from error
    from residency.explain import recording

    recording.register()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    imported = time.perf_counter()
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation=recording.IMPLEMENTATION,
            local_files_only=True,
        )
        model.eval()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{folder}: this model cannot be watched at work: {reason}",
            hint="a Llama-, Mistral-, Qwen-, Phi- or Gemma-shaped model can",
        ) from error
    return Opened(
        name=name,
        model=model,
        tokenizer=load_tokenizer(folder),
        shape=read_shape(str(folder)),
        importing=imported - start,
        loading=time.perf_counter() - imported,
    )
