"""A small model with an adapter, made in a second: real files for what comes after training.

Its width, 256, is a multiple of the K types' block; SmolLM2's, 576, is none. Its weights are
random, but large enough for it to be sure of what it says.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from residency import fingerprint
from residency.builds import Training, write_training
from residency.conversations import write_conversations
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer
from residency.store import digest_tree
from residency.types import Artifact, Conversation, Message

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
LINES = (
    ("My tooth hurts since Monday.", '{"department":"dental","urgency":"same_day"}'),
    ("Necesito una copia de mi receta.", '{"department":"pharmacy","urgency":"routine"}'),
    ("我想改约到下周三。", '{"department":"front_desk","urgency":"routine"}'),
    ("Is the lab open?", '{"department":"lab","urgency":"routine"}'),
    ("I want to pay my bill", '{"department":"billing","urgency":"routine"}'),
)


@dataclass(frozen=True, kw_only=True)
class Specialist:
    """What the export stage takes."""

    base: BaseModel
    dataset: Artifact
    adapter: Artifact


def conversations() -> list[Conversation]:
    system = Message(role="system", content="Clinic desk.")
    return [
        Conversation(
            messages=(
                system,
                Message(role="user", content=question),
                Message(role="assistant", content=answer),
            ),
            source=f"test:{number}",
        )
        for number, (question, answer) in enumerate(LINES, 1)
    ]


def make(
    folder: Path, tokenizer_from: Path, *, width: int = 256, spread: float = 0.15
) -> Specialist:
    """A base model, a data set and an adapter with its fingerprint, below `folder`."""
    dataset = folder / "dataset"
    dataset.mkdir(parents=True)
    for split in ("train", "validation"):
        write_conversations(dataset / f"{split}.jsonl", conversations())
    base = make_base(folder / "base", tokenizer_from, width=width, spread=spread)
    adapter = make_adapter(folder / "adapter", base.path, dataset)
    return Specialist(
        base=base,
        dataset=Artifact(path=dataset, kind="dataset", digest=digest_tree(dataset)),
        adapter=Artifact(path=adapter, kind="adapter", digest=digest_tree(adapter)),
    )


def make_base(
    folder: Path, tokenizer_from: Path, *, width: int = 256, spread: float = 0.15, seed: int = 5
) -> BaseModel:
    """`spread` is the standard deviation of its weights; the wider it is, the less that bears."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=49152,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=spread,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    model = LlamaForCausalLM(config)
    model.model.norm.weight.data *= 1.5
    model.half().save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer_from / name, folder / name)
    return BaseModel(
        name="small", path=folder, digest=digest_tree(folder), license="none", source="a test"
    )


def make_adapter(folder: Path, base: Path, dataset: Path, *, seed: int = 7) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(plain, config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    taken = fingerprint.take_torch(model, load_tokenizer(base), fingerprint.probes(dataset))
    fingerprint.write_fingerprint(folder, taken)
    write_training(folder, Training(method="lora", words="LoRA: rank 4, alpha 8, dropout 0.0"))
    return folder
