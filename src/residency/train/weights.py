"""The model that a plan trains: loaded in its precision, with an adapter where one is learnt."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from residency.config import TrainSettings
from residency.errors import MissingError, SettingsError
from residency.models.folder import copy_tokenizer
from residency.train import ranks, shards
from residency.train.plan import Plan

# How the architectures of the hub name a block's attention: in full, or the beginning of it.
_ATTENTION = ("attn", "attention")
_PACKS = "support_avx512bf16_for_cpu"  # of bitsandbytes' layers


def load(folder: Path, plan: Plan) -> Any:
    """The model of a Hugging Face folder, in the plan's precision; for QLoRA in 4 bits.

    Raises `MissingError` where bitsandbytes is not installed.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    more = {"quantization_config": _four_bits(plan)} if plan.method == "qlora" else {}
    dtype = getattr(torch, plan.precision)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **more)
    for module in model.modules():
        # bitsandbytes 0.50 packs weights anew when it evaluates on a processor with AVX-512's
        # bfloat16, leaves them so, and has no gradients through them: what is trained after the
        # first validation would learn from a wrong one, with a warning alone.
        if hasattr(module, _PACKS):
            setattr(module, _PACKS, False)
    if plan.method == "qlora":
        _leave_files(model)
    return model


def _leave_files(model: Any) -> None:
    """Copy what is not in 4 bits out of the files, which stay mapped, and all that was read of them
    in memory, for the sake of a norm."""
    for parameter in model.parameters():
        if not hasattr(parameter, "quant_state"):
            parameter.data = parameter.data.clone()


def _four_bits(plan: Plan) -> Any:
    """NF4 with double quantization (Dettmers et al. 2023)."""
    import importlib.util

    import torch
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingError(
            "qlora needs bitsandbytes, which is not installed",
            hint="pip install 'residency[qlora]', or take method lora",
        )
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, plan.precision),
    )


def with_adapter(model: Any, plan: Plan, settings: TrainSettings) -> Any:
    """`model` frozen under a new adapter."""
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        model,
        LoraConfig(
            r=plan.rank,
            lora_alpha=plan.alpha,
            lora_dropout=plan.dropout,
            use_dora=settings.dora,
            use_rslora=settings.rslora,
            target_modules=_targets(model, settings.target_modules),
            task_type="CAUSAL_LM",
        ),
    )


def _targets(model: Any, wanted: list[str] | str) -> list[str] | str:
    """What peft is to adapt. Raises `SettingsError` for a name that the model does not have."""
    import torch

    if wanted == "all-linear":
        return wanted
    head = model.get_output_embeddings()
    paths = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    ]
    known = _last_names(paths)
    if wanted == "attention":
        return _last_names(path for path in paths if any(word in path for word in _ATTENTION))
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise SettingsError(
                f"[train] target_modules: the model has no linear layer {name!r}",
                hint=f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}",
            )
    return list(wanted)


def _last_names(paths: Iterable[str]) -> list[str]:
    return sorted({path.rpartition(".")[2] for path in paths})


def save(model: Any, base: Path, folder: Path) -> None:
    """Write an adapter, or a whole model with its tokenizer, to `folder`.

    Left out is what differs by machine or by run: the path of the base model, and the order of a
    set. All processes of a sharded model call it; the first one writes.
    """
    from peft import PeftModel

    state = shards.whole_weights(model)
    if ranks.rank() != 0:
        return
    if isinstance(model, PeftModel):
        config: Any = model.peft_config["default"]
        config.base_model_name_or_path = ""
        config.target_modules = sorted(config.target_modules)
        model.save_pretrained(str(folder), state_dict=state)
        (folder / "README.md").unlink(missing_ok=True)
    else:
        model.save_pretrained(folder, state_dict=state)
        copy_tokenizer(base, folder)
