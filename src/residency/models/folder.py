"""Hugging Face folders: whether one holds what training and export need, and its tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

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
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")


def check(path: Path) -> None:
    """Raise `ModelError` unless the folder has a config, a tokenizer, weights and a template."""
    if not (path / "config.json").is_file():
        raise ModelError(
            f"{path}: no config.json, so not a model folder",
            hint="give the folder that transformers' save_pretrained wrote",
        )
    if not any((path / name).is_file() for name in _TOKENIZERS):
        raise ModelError(
            f"{path}: no tokenizer (none of {', '.join(_TOKENIZERS)})",
            hint="save it there with tokenizer.save_pretrained, or fetch the folder again",
        )
    if not any(path.glob("*.safetensors")):
        raise ModelError(
            f"{path}: no weights (*.safetensors)",
            hint="pickled weights (*.bin) are not read: save the model again as safetensors",
        )
    if not _has_template(path):
        raise ModelError(
            f"{path}: no chat template, so nothing says how a conversation is written",
            hint="take the instruct version of the model, or put a chat_template.jinja there",
        )


def _has_template(path: Path) -> bool:
    if (path / "chat_template.jinja").is_file() or (path / "chat_template.json").is_file():
        return True
    config = path / "tokenizer_config.json"
    try:
        return bool(json.loads(config.read_text(encoding="utf-8")).get("chat_template"))
    except FileNotFoundError:
        return False
    except ValueError as error:
        raise ModelError(f"{config}: broken JSON: {error}", hint="fetch the file again") from None


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy tokenizer, chat template and sampler settings from model folder to model folder."""
    for name in COPIED:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
