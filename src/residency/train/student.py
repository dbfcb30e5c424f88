"""A student for distillation from probabilities: some layers of its base model, evenly chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from residency.errors import ModelError, SettingsError
from residency.models.cache import build_once
from residency.models.chat import load_tokenizer
from residency.models.folder import copy_tokenizer
from residency.models.shape import read_shape
from residency.progress import say

_PROBE = "Order 3 of №12, please: naïve café — 我想改约到下周三。\n\n\t<|x|> 🚀 e.g. 3.14"


def begin(base: Path, teacher: Path, layers: int | None, folder: Path) -> Path:
    """A Hugging Face folder with `layers` of the layers of `base` (half if None), in `folder`.

    The same inputs give the same bytes. Raises `ModelError` where `teacher` reads text otherwise,
    and `SettingsError` where `base` has fewer layers.
    """
    check_same_tokenizer(base, teacher)
    has = read_shape(str(base)).layers
    kept = layers or (has + 1) // 2
    if kept > has:
        raise SettingsError(
            f"[train] student_layers is {kept}, and the base model has {has} layers",
            hint="a student has some of its base model's layers, or all of them",
        )
    chosen = evenly(has, kept)
    say(f"  a student of {kept} of {has} layers: {', '.join(str(n) for n in chosen)}")
    return build_once(folder, lambda draft: _fill(base, chosen, draft))


def check_same_tokenizer(base: Path, teacher: Path) -> None:
    """Raise `ModelError` unless both models turn a conversation into the same token ids: only then
    is a probability of the teacher one of the student's. Loads no weights."""
    ours, its = load_tokenizer(base), load_tokenizer(teacher)
    what = ""
    if ours.get_vocab() != its.get_vocab():
        what = f"its vocabulary is another: {len(its)} tokens, the student's has {len(ours)}"
    elif _ids(ours) != _ids(its):
        what = "it has the same tokens, and splits text in another way"
    elif ours.chat_template != its.chat_template:
        what = "its chat template is another"
    if what:
        raise ModelError(
            f"the teacher {teacher.name} cannot teach {base.name}: {what}",
            hint="take a teacher of the same family, or learn from its answers: [train.teacher]",
        )


def _ids(tokenizer: Any) -> Any:
    return tokenizer(_PROBE, add_special_tokens=False)["input_ids"]


def evenly(has: int, kept: int) -> list[int]:
    """`kept` of `has` layers, the first and the last among them, at even distances."""
    if kept == 1:
        return [0]
    return [round(number * (has - 1) / (kept - 1)) for number in range(kept)]


def _fill(base: Path, chosen: list[int], folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    decoder = model.get_decoder()  # type: ignore[no-untyped-call]
    if not isinstance(getattr(decoder, "layers", None), torch.nn.ModuleList):
        raise ModelError(
            f"{base}: its layers are not in one list, so none can be left out",
            hint="take all of them: student_layers as many as it has, or another base model",
        )
    decoder.layers = torch.nn.ModuleList(decoder.layers[number] for number in chosen)
    config = model.config.get_text_config()
    config.num_hidden_layers = len(chosen)
    if kinds := getattr(config, "layer_types", None):
        config.layer_types = [kinds[number] for number in chosen]
    model.save_pretrained(folder)
    copy_tokenizer(base, folder)
