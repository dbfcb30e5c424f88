"""What a model says and how well it knows the right words, asked in the process that trains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from residency.models.chat import render, stop_tokens
from residency.train.batch import Batches, Row
from residency.train.diagnosis import Start
from residency.train.trainer import answer_loss
from residency.types import Conversation

_AT_ONCE = 16  # prompts


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """`ended` is false where the limit of tokens cut the answer off."""

    text: str
    ended: bool


def ask(model: Any, tokenizer: Any, rows: Sequence[Conversation], limit: int) -> list[Reply]:
    """The likeliest answer to the prompt of each of `rows`, of at most `limit` tokens."""
    ids = [render(tokenizer, row.prompt, answer=False, tools=row.tools).ids for row in rows]
    order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
    replies: dict[int, Reply] = {}
    model.eval()
    for first in range(0, len(order), _AT_ONCE):
        group = order[first : first + _AT_ONCE]
        made = _generate(model, tokenizer, [ids[number] for number in group], limit)
        replies.update(zip(group, made, strict=True))
    return [replies[number] for number in range(len(ids))]


def right_words(tokenizer: Any, row: Conversation) -> tuple[int, str]:
    """The answer to learn as a `Reply` has it, calls of tools included, and its tokens."""
    rendered = render(tokenizer, row.messages, answer=True, tools=row.tools)
    ids = [token for token, learnt in zip(rendered.ids, rendered.learnt, strict=True) if learnt]
    return len(ids) - 1, tokenizer.decode(ids, skip_special_tokens=True).strip()  # without its end


def start_of(model: Any, rows: Sequence[Row]) -> Start:
    """The loss of `model` as it is, row by row."""
    import torch

    collate, losses = Batches(0), []
    model.eval()
    with torch.no_grad():
        for row in rows:
            batch = {name: value.to(model.device) for name, value in collate([row]).items()}
            losses.append(float(answer_loss(model, batch)))
    values = torch.tensor(losses, dtype=torch.float64)
    spread = float(values.std()) if len(losses) > 1 else 0.0
    return Start(loss=float(values.mean()), spread=spread, rows=len(losses))


def _generate(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], limit: int
) -> list[Reply]:
    import torch
    from transformers import GenerationConfig

    stops = [tokenizer.convert_tokens_to_ids(token) for token in stop_tokens(tokenizer)]
    width = max(map(len, prompts))
    pads = [width - len(ids) for ids in prompts]
    given = [[stops[0]] * pad + list(ids) for pad, ids in zip(pads, prompts, strict=True)]
    seen = [[0] * pad + [1] * len(ids) for pad, ids in zip(pads, prompts, strict=True)]
    how = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, max_new_tokens=limit, eos_token_id=stops, pad_token_id=stops[0]
    )
    with torch.no_grad():
        made = model.generate(
            input_ids=torch.tensor(given, device=model.device),
            attention_mask=torch.tensor(seen, device=model.device),
            generation_config=how,
        )
    replies = []
    for ids in made[:, width:].tolist():
        end = next((n for n, token in enumerate(ids) if token in stops), len(ids))
        text = tokenizer.decode(ids[:end], skip_special_tokens=True).strip()
        replies.append(Reply(text=text, ended=end < len(ids)))
    return replies
