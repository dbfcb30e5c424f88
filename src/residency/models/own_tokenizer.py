"""A tokenizer and a chat template of our own, for a model that begins from nothing.

Byte-level BPE, split as SmolLM's is: each digit alone, then GPT-2's pattern. So llama.cpp has the
same splitting under a name (`PRE`), and any text in any script can be written, as bytes at worst.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PRE = "smollm"
"""What llama.cpp calls this way of splitting text (`tokenizer.ggml.pre`)."""
PRE_KEY = "ggml_pre"
"""Where tokenizer_config.json says so: llama.cpp's converter knows tokenizers by a hash, and none
that was trained here."""
END = "<|end|>"
PAD = "<|pad|>"
ROLES = ("system", "user", "assistant", "tool")
BYTES = 256 + 2 + len(ROLES)
"""The size of a vocabulary that nothing was learnt for."""
_SEEN = 20  # times that a token must stand in the text: one that is rarer is hardly learnt
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '" + END + "' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def write_tokenizer(texts: Iterable[str], size: int, folder: Path) -> int:
    """Learn a vocabulary of at most `size` tokens from `texts`, write the tokenizer to `folder`,
    and return how many tokens it has. Of no texts it is the bytes alone.

    The same texts in the same order give the same bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = [PAD, END, *(f"<|{role}|>" for role in ROLES)]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=max(size, BYTES),
        min_frequency=_SEEN,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    whole = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=made,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[f"<|{role}|>" for role in ROLES],
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
        add_bos_token=False,
    )
    whole.save_pretrained(folder)
    _mark(folder / "tokenizer_config.json")
    return int(made.get_vocab_size())


def _mark(path: Path) -> None:
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    config[PRE_KEY] = PRE
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def pre_of(folder: Path) -> str:
    """The splitting that a tokenizer of ours names, or "" for another's."""
    path = folder / "tokenizer_config.json"
    if not path.exists():
        return ""
    return str(json.loads(path.read_text(encoding="utf-8")).get(PRE_KEY, ""))
