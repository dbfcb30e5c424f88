from __future__ import annotations

from residency.data.preview import preview
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer
from tests.data.rows import row


def test_the_learnt_tokens_are_marked(base: BaseModel) -> None:
    tokenizer = load_tokenizer(base.path)
    text = preview(tokenizer, [row("几点开门？", "8:30", 7)], colour=False)
    assert text.startswith("--- f:7: ")
    assert "几点开门？" in text
    assert text.rstrip().endswith("<|im_start|>assistant\n⟦8:30<|im_end|>⟧")
    assert text.count("⟦") == 1
    coloured = preview(tokenizer, [row("Q", "8:30", 7)], colour=True)
    assert "\033[1;32m8:30<|im_end|>\033[0m" in coloured
