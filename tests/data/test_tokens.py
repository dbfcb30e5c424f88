from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from residency.conversations import read_conversations, write_conversations
from residency.data.tokens import fit, measure, spread, without_unread_tools
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer, render
from tests.data.rows import row
from tests.models.test_templates import CHATML
from tests.models.test_templates import tokenizer as of_template
from tests.tooled import HERMES, call, conversation


def test_lengths_are_those_that_training_sees(base: BaseModel) -> None:
    tokenizer = load_tokenizer(base.path)
    rows = [row("Hello", "yes"), row("你好 " * 50, '{"a": 1}', system="S")]
    lengths = measure(tokenizer, rows)
    for one, length in zip(rows, lengths, strict=True):
        assert length.prompt == len(render(tokenizer, one.prompt, answer=False).ids)
        assert length.whole == len(render(tokenizer, one.messages, answer=True).ids)
    assert lengths[0].answer == 2


def test_tools_are_counted_and_kept_where_the_template_reads_them(tmp_path: Path) -> None:
    own = of_template(HERMES)
    rows = [conversation("Free?", call(day="Monday")), row("Free?", "Yes.")]
    assert without_unread_tools(own, rows) == (rows, {})
    bare = replace(rows[0], tools=())
    with_tools, without = (length.prompt for length in measure(own, [rows[0], bare]))
    assert with_tools > without
    spoken = conversation("Free?")
    kept, counts = without_unread_tools(of_template(CHATML), [*rows, spoken])
    assert kept == [rows[1], replace(spoken, tools=())]
    assert counts == {"tools_left_out": 2, "calls_left_out": 1}
    assert fit(own, rows, with_tools).too_long == ["f:1"]
    # A row without tools has no such key: data sets without any keep their digests.
    write_conversations(tmp_path / "train.jsonl", rows)
    lines = (tmp_path / "train.jsonl").read_text().splitlines()
    assert ['"tools"' in line for line in lines] == [True, False]
    assert read_conversations(tmp_path / "train.jsonl") == rows


def test_spread_is_by_nearest_rank() -> None:
    assert spread(range(1, 101)) == {"p50": 50, "p95": 95, "max": 100}
    assert spread([7]) == {"p50": 7, "p95": 7, "max": 7}
    assert spread([]) == {"p50": 0, "p95": 0, "max": 0}
