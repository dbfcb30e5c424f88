"""The importance matrix: how much each column of each weight matters to the user's own text.

It is llama.cpp's (tools/imatrix/imatrix.cpp): the mean square of what comes into a linear layer,
column by column, over all tokens; as there, the output layer is left out. A quantizer rounds so
that columns which meet large values come out best.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from residency.hardware import one_torch_thread
from residency.models.chat import render
from residency.models.gguf_file import tensor_names
from residency.progress import Progress
from residency.types import Conversation

# A specialist's text is all of one kind; and SmolLM2-135M reads about 90 tokens a second here.
MAX_TOKENS = 8_192
_SEED = 17


@dataclass(frozen=True, kw_only=True, slots=True)
class Imatrix:
    """`means` has the mean squares of each linear module's input columns, by the module's name in
    transformers; `source` is the text that they are from."""

    source: str
    conversations: int
    tokens: int
    means: dict[str, Any]

    def named(self, architecture: str, layers: int) -> dict[str, Any]:
        """`means` by the names of a GGUF's tensors; modules that it does not have are left out."""
        names = tensor_names(architecture, layers)
        found = {names(module): values for module, values in self.means.items()}
        return {f"{name}.weight": values for name, values in found.items() if name}

    def note(self, tensors: int) -> str:
        """In words, for a build that used it for this many tensors."""
        return (
            f"importance matrix for {tensors} tensors, from {self.tokens:,} tokens in "
            f"{self.conversations} conversations of {self.source}"
        )


def collect(
    model: Any, tokenizer: Any, conversations: Sequence[Conversation], source: str
) -> Imatrix:
    """Run a transformers model over `conversations`, rendered as in training, and look on.

    It stops after `MAX_TOKENS` tokens.
    """
    import torch

    sums: dict[str, Any] = {}
    hooks = [
        module.register_forward_pre_hook(_adder(sums, name))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    rows = _rows(tokenizer, conversations)
    try:
        with (
            one_torch_thread(),
            torch.no_grad(),
            Progress("importance matrix", len(rows)) as progress,
        ):
            for ids in rows:
                model.base_model(input_ids=torch.tensor([ids]), use_cache=False)
                progress.advance()
    finally:
        for hook in hooks:
            hook.remove()
    tokens = sum(len(ids) for ids in rows)
    return Imatrix(
        source=source,
        conversations=len(rows),
        tokens=tokens,
        means={name: (total / tokens).float().numpy() for name, total in sums.items()},
    )


def _adder(sums: dict[str, Any], name: str) -> Any:
    def add(_: Any, inputs: tuple[Any, ...]) -> None:
        squares = inputs[0].flatten(0, -2).double().square().sum(0)
        sums[name] = sums[name] + squares if name in sums else squares

    return add


def _rows(tokenizer: Any, conversations: Sequence[Conversation]) -> list[tuple[int, ...]]:
    """Token ids of as many conversations as have `MAX_TOKENS` in all, in an order of no meaning:
    the user's file may be sorted."""
    rows, left = [], MAX_TOKENS
    for one in random.Random(_SEED).sample(conversations, len(conversations)):
        if left <= 0:
            break
        whole = render(tokenizer, one.messages, answer=True, tools=one.tools)
        rows.append(whole.ids[:left])
        left -= len(rows[-1])
    return rows
