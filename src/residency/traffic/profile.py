"""What a call asked and answered, and the figures of the calls of one category."""

from __future__ import annotations

import itertools
import json
import random
import re
import statistics
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from residency.traffic.logs.values import mapping, objects
from residency.types import Category, Exchange
from residency.words import words

LONGEST = 1000
"""Characters of a text that are kept; the encoder reads less."""
SHORT = 40
"""Characters up to which an answer is a label, the same or not, rather than a text."""
EXAMPLES = 5
_ANSWERS, _FEWEST = 60, 5


def asked(exchange: Exchange) -> str:
    """The last thing that the user said, cut to `LONGEST`; empty where none was kept."""
    users = [one for one in _messages(exchange) if one.get("role") == "user"]
    said = users[-1].get("content") if users else None
    return _kept(_text(said or exchange.request.get("prompt") or exchange.request.get("input")))


def application(exchange: Exchange) -> str:
    """The system prompt, with its figures as 0: calls of one program have the same."""
    said = [m for m in _messages(exchange) if m.get("role") in ("system", "developer")]
    return re.sub(r"\d+", "0", _kept("\n".join(_text(one.get("content")) for one in said)))


def answered(exchange: Exchange) -> str:
    """The answer's text, or its tool calls as JSON; empty where it has none."""
    choice = next(iter(objects((exchange.response or {}).get("choices"))), {})
    message = mapping(choice.get("message"))
    if calls := message.get("tool_calls"):
        functions = [one.get("function") for one in objects(calls)]
        return _kept(json.dumps(functions, ensure_ascii=False, sort_keys=True))
    return _kept(_text(message.get("content") or choice.get("text")))


def _messages(exchange: Exchange) -> list[dict[str, Any]]:
    return objects(exchange.request.get("messages"))


def _text(content: Any) -> str:
    """The text of a message's content, which may come in parts, or of several prompts."""
    if isinstance(content, list):
        parts = (one.get("text") if isinstance(one, Mapping) else one for one in content)
        return "\n".join(one for one in parts if isinstance(one, str))
    return content if isinstance(content, str) else ""


def _kept(text: str) -> str:
    return " ".join(text[: 2 * LONGEST].split())[:LONGEST]


def tags(exchange: Exchange) -> Iterator[tuple[str, str]]:
    """The log's own tags, and the `metadata` of the request as OpenAI's API has it."""
    for holder in (exchange.tags, exchange.request.get("metadata")):
        for name, value in mapping(holder).items():
            if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
                yield name, str(value)


def script(text: str) -> str:
    """The script of most of the first letters, as Unicode names it; empty for none."""
    letters = Counter(_script(char) for char in text[:200] if char.isalpha())
    return letters.most_common(1)[0][0] if letters else ""


@lru_cache(4096)
def _script(char: str) -> str:
    name = unicodedata.name(char, "OTHER").split()[0].split("-")[0]
    return {"CJK": "Han"}.get(name, name.title())


def alike(answers: Sequence[str]) -> float | None:
    """How alike two random answers are, in the mean, 0..1; None for fewer than five.

    Of two short ones: whether they are the same, whatever their case and spacing. Else the F1 of
    the words that they share.
    """
    if len(answers) < _FEWEST:
        return None
    split = [(len(one) <= SHORT, Counter(words(one)), one.casefold().strip()) for one in answers]
    return statistics.fmean(_similar(a, b) for a, b in itertools.combinations(split, 2))


def _similar(one: tuple[bool, Counter[str], str], other: tuple[bool, Counter[str], str]) -> float:
    if one[2] == other[2]:
        return 1.0
    if one[0] and other[0]:
        return 0.0
    total = one[1].total() + other[1].total()
    return 2 * (one[1] & other[1]).total() / total if total else 0.0


class Tally:
    """The figures of one category, call by call; of its answers a random sample is kept."""

    def __init__(self, seed: str) -> None:
        self.calls = self.errors = self.prompt_tokens = self.completion_tokens = 0
        self.cost = 0.0
        self.tags: Counter[str] = Counter()
        self._examples: dict[str, None] = {}
        self._latencies = array("f")
        self._answers: list[str] = []
        self._heard = 0
        self._random = random.Random(seed)

    def add(self, exchange: Exchange, text: str, tag: str) -> None:
        self.calls += 1
        if len(self._examples) < EXAMPLES and text:
            self._examples[text] = None
        self.prompt_tokens += exchange.prompt_tokens
        self.completion_tokens += exchange.completion_tokens
        self.cost += exchange.cost
        if tag:
            self.tags[tag] += 1
        if exchange.error or exchange.status >= 400:
            self.errors += 1
            return
        if exchange.latency > 0:
            self._latencies.append(exchange.latency)
        if answer := answered(exchange):
            self._sample(answer)

    def _sample(self, answer: str) -> None:
        """Algorithm R (Vitter 1985): each answer has the same chance to stay."""
        self._heard += 1
        if len(self._answers) < _ANSWERS:
            self._answers.append(answer)
        elif (place := self._random.randrange(self._heard)) < _ANSWERS:
            self._answers[place] = answer

    def category(self, name: str, examples: Sequence[str] = ()) -> Category:
        """The figures; without `examples`, the first texts that came."""
        p50, p95 = np.percentile(self._latencies, (50, 95)) if self._latencies else (None, None)
        return Category(
            name=name,
            calls=self.calls,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cost=self.cost,
            p50=None if p50 is None else float(p50),
            p95=None if p95 is None else float(p95),
            errors=self.errors,
            alike=alike(self._answers),
            examples=tuple(examples or self._examples),
            tags=dict(self.tags.most_common()),
        )
