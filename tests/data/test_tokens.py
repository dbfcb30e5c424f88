from __future__ import annotations

from residency.data.tokens import measure, spread
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer, render
from tests.data.rows import row


def test_lengths_are_those_that_training_sees(base: BaseModel) -> None:
    tokenizer = load_tokenizer(base.path)
    rows = [row("Hello", "yes"), row("你好 " * 50, '{"a": 1}', system="S")]
    lengths = measure(tokenizer, rows)
    for one, length in zip(rows, lengths, strict=True):
        assert length.prompt == len(render(tokenizer, one.prompt, answer=False).ids)
        assert length.whole == len(render(tokenizer, one.messages, answer=True).ids)
    assert lengths[0].answer == 2


def test_spread_is_by_nearest_rank() -> None:
    assert spread(range(1, 101)) == {"p50": 50, "p95": 95, "max": 100}
    assert spread([7]) == {"p50": 7, "p95": 7, "max": 7}
    assert spread([]) == {"p50": 0, "p95": 0, "max": 0}
