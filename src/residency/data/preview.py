"""Rows as the model will see them, with what it is to learn marked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from residency.models.chat import Rendered, render
from residency.types import Conversation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARKS = ("⟦", "⟧")
_COLOUR = ("\033[1;32m", "\033[0m")


def preview(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Conversation],
    *,
    colour: bool | None = None,
) -> str:
    """The rendered text of `rows`, learnt tokens in colour on a terminal, else between ⟦ and ⟧."""
    marks = _COLOUR if (sys.stdout.isatty() if colour is None else colour) else _MARKS
    parts = []
    for row in rows:
        rendered = render(tokenizer, row.messages, answer=True, tools=row.tools)
        learnt = sum(rendered.learnt)
        head = f"--- {row.source}: {len(rendered.ids)} tokens, {learnt} of them learnt"
        parts.append(f"{head}\n{_marked(tokenizer, rendered, marks)}\n")
    return "\n".join(parts)


def _marked(tokenizer: PreTrainedTokenizerBase, rendered: Rendered, marks: tuple[str, str]) -> str:
    before, after = marks
    text = ""
    pairs = zip(rendered.ids, rendered.learnt, strict=True)
    for learnt, run in groupby(pairs, key=lambda pair: pair[1]):
        piece = str(tokenizer.decode([token for token, _ in run]))
        text += f"{before}{piece}{after}" if learnt else piece
    return text
