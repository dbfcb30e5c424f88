"""What is said next, and where an answer ends: the choices that the ONNX host makes by itself.

They are pure: logits, wishes and random numbers in, scores and texts out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, Field

Numbers = NDArray[np.float32]
OUT = 1e4
"""Taken from the score of a token outside the nucleus; a grammar may leave nothing but such."""


class Wishes(BaseModel):
    """How an answer is asked for, in the fields of OpenAI's API; others are passed over.

    `logprobs` is a flag in chat, and the number of alternatives in completions.
    """

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=0)] | None = None
    stop: Annotated[list[str], BeforeValidator(lambda v: [v] if isinstance(v, str) else v)] = []
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    logprobs: bool | int = False
    top_logprobs: int = 0
    response_format: dict[str, Any] = {}

    @property
    def alternatives(self) -> int | None:
        """How many of the likeliest tokens to tell at each place; None tells no probabilities."""
        if self.logprobs is False:
            return None
        return self.top_logprobs if self.logprobs is True else self.logprobs


def scores(
    logits: Numbers, wishes: Wishes, written: Numbers, chance: np.random.Generator
) -> Numbers:
    """Scores whose highest is the next token; `written` counts each token of the answer so far.

    The highest of log-probabilities with Gumbel noise is a sample (the Gumbel-max trick; Maddison
    et al. 2014, "A* sampling"), also where the engine's grammar takes some away afterwards.
    """
    found: Numbers = logits - wishes.frequency_penalty * written
    found -= wishes.presence_penalty * (written > 0)
    for token, bias in wishes.logit_bias.items():
        if token < len(found):
            found[token] += bias
    if wishes.temperature:
        found /= wishes.temperature
        if wishes.top_p < 1:
            found[~_nucleus(found, wishes.top_p)] -= OUT
        found -= np.log(chance.standard_exponential(len(found), dtype=np.float32))
    return found


def _nucleus(found: Numbers, top_p: float) -> NDArray[np.bool_]:
    """The fewest of the likeliest tokens that have `top_p` of the probability, one at least."""
    order = np.argsort(-found, kind="stable")
    share = np.exp(log_softmax(found)[order])
    before = np.cumsum(share) - share
    inside = np.zeros(len(found), bool)
    inside[order[: max(1, int((before < top_p).sum()))]] = True
    return inside


def log_softmax(logits: Numbers) -> Numbers:
    """Natural logarithms of the probabilities."""
    found: Numbers = logits - logits.max()
    found -= np.log(np.exp(found).sum())
    return found


def likeliest(logprobs: Numbers, count: int) -> list[int]:
    """The `count` likeliest tokens, the likeliest first."""
    count = min(count, len(logprobs))
    some = np.argpartition(-logprobs, count - 1)[:count] if count else np.zeros(0, int)
    return [int(i) for i in some[np.argsort(-logprobs[some], kind="stable")]]


class Stops:
    """Cuts a growing text before the first of `stops`; `found` is that one, once it has come."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.found = ""

    def add(self, piece: str) -> str:
        """What can be said, now that `piece` has come: not what may be a stop's beginning."""
        text = self._held + piece
        hits = [(at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if hits:
            end, self.found = min(hits)
        else:
            end = len(text) - max((_begun(text, stop) for stop in self._stops), default=0)
        self._held = "" if hits else text[end:]
        return text[:end]

    def rest(self) -> str:
        """What was held back of an answer that has ended."""
        return self._held


def _begun(text: str, stop: str) -> int:
    """How many of the text's last characters begin `stop`."""
    return next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)
