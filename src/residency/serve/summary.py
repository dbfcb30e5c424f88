"""Older turns in the model's own words, written once for each beginning of a conversation.

The end of what is summarised moves in steps. Where a conversation outgrows its room, it is
shortened to half of it, and the same summary serves while what follows still fits: the rendered
prompt then begins alike from call to call, and the engine's cache of it holds.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from residency.errors import EngineError
from residency.serve.asked import Asked
from residency.serve.turns import Group, fewest, older, without
from residency.types import Message

VERBATIM_TURNS = 3
"""The newest turns, which stay as they are where they fit."""
SHARE = 8
"""A summary may take an eighth of the context."""
KEPT = 256
"""Summaries in memory; at a few hundred tokens each, well under a megabyte."""


class Reader(Protocol):
    """The model, as far as fitting needs it. Both raise `EngineError`."""

    async def count(self, asked: Asked) -> int:
        """The tokens of the prompt that the engine makes of `asked`, exactly."""

    async def write(self, messages: Sequence[Message], max_tokens: int) -> str:
        """The model's own answer to `messages`, greedy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """What is said around a summary, in one language."""

    ask: str
    open: str
    agree: str


ENGLISH = Words(
    ask="Summarise our conversation so far in a few sentences, in the conversation's language. "
    "Keep names, numbers, decisions and open questions. Write only the summary.",
    open="Summary of our conversation after its first question:",
    agree="Understood.",
)
CHINESE = Words(
    ask="请用几句话总结我们到目前为止的对话。保留人名、数字、决定和未解决的问题。只写总结。",
    open="我们在第一个问题之后的对话总结:",
    agree="明白了。",
)
SPANISH = Words(
    ask="Resume en pocas frases nuestra conversación hasta ahora. Conserva los nombres, las "
    "cifras, las decisiones y las preguntas pendientes. Escribe solo el resumen.",
    open="Resumen de nuestra conversación después de la primera pregunta:",
    agree="Entendido.",
)

# Frequent words that Portuguese, Italian, French and Catalan write otherwise.
_SPANISH = frozenset(
    ("el", "los", "las", "y", "es", "del", "con", "una", "hay", "muy", "qué", "cómo", "dónde")
)


def words_for(messages: Sequence[Message]) -> Words:
    """The words in the language of the user messages; English ones, if it is not known here.

    Chinese: a fifth of the letters are Han, and there is no kana. Spanish: one word in ten is a
    frequent one.
    """
    text = " ".join(one.content for one in messages if one.role == "user").lower()
    han = len(re.findall("[\u4e00-\u9fff]", text))
    if han and han * 5 >= len(re.findall(r"\w", text)) and not re.search("[\u3040-\u30ff]", text):
        return CHINESE
    words = re.findall(r"\w+", text)
    spanish = sum(word in _SPANISH for word in words)
    return SPANISH if spanish and spanish * 10 >= len(words) else ENGLISH


def credible(text: str, asked: Sequence[Message], words: Words) -> bool:
    """Whether `text` can be a summary of `asked`: it is not a piece of what was said around it, and
    each number of two digits or more was there before. SmolLM2 135M fails at both."""
    source = " ".join(one.content for one in asked)
    invented = set(re.findall(r"\d\d+", text)) - set(re.findall(r"\d\d+", source))
    return bool(text) and text not in words.ask + words.agree and not invented


@dataclass(frozen=True, kw_only=True, slots=True)
class Shortened:
    """A request with a summary in it: its tokens, and how many messages the summary stands for."""

    asked: Asked
    tokens: int
    messages: int
    cached: bool


class Summaries:
    """The summaries of one model on one engine; belongs to one event loop.

    They are kept by the digest of all that is before their end, and the one used longest ago goes
    first. One that failed is kept as an empty text, so that no later turn of the conversation pays
    for another try. Two requests that need the same one wait for the same writing.
    """

    def __init__(self, reader: Reader, context: int) -> None:
        self._reader = reader
        self._context = context
        self._most = context // SHARE
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._writing: dict[str, asyncio.Task[str]] = {}

    async def shorten(self, asked: Asked, limit: int) -> Shortened | None:
        """`asked` in at most `limit` tokens; None where no summary achieves that."""
        story = _Story(asked)
        known = max((n for n, key in story.keys.items() if key in self._texts), default=0)
        text = self._texts[story.keys[known]] if known else ""
        if known:
            if not text:
                return None
            short = await self._shortened(story, known, text)
            if short.tokens <= limit:
                self._keep(story.keys[known], text)
                return replace(short, cached=True)
        end = await self._end(story, known, limit)
        if end is None or not (text := await self._text(story, known, text, end)):
            return None
        short = await self._shortened(story, end, text)
        return short if short.tokens <= limit else None

    async def _shortened(self, story: _Story, end: int, text: str) -> Shortened:
        asked = story.told(end, text)
        tokens = await self._reader.count(asked)
        return Shortened(asked=asked, tokens=tokens, messages=story.size(end), cached=False)

    async def _end(self, story: _Story, known: int, limit: int) -> int | None:
        """How many turns to summarise: down to half of `limit` with the newest turns as they are;
        if they leave no room for that, just enough turns."""
        tail = max(known + 1, len(story.turns) - (VERBATIM_TURNS - 1))
        if tail > len(story.turns):
            return None

        async def tokens(end: int) -> int:
            return await self._reader.count(story.told(end, "")) + self._most

        if await tokens(tail) <= limit // 2:
            return (await fewest(tail, tokens, limit // 2, low=known + 1))[0]
        end, size = await fewest(len(story.turns), tokens, limit, low=tail)
        return end if size <= limit else None

    async def _text(self, story: _Story, known: int, text: str, end: int) -> str:
        key = story.keys[end]
        task = self._writing.get(key)
        if task is None:
            task = self._writing[key] = asyncio.create_task(self._write(story, known, text, end))
            task.add_done_callback(lambda _: self._writing.pop(key))
        # Whoever asked first may leave; the others still want it.
        return await asyncio.shield(task)

    async def _write(self, story: _Story, done: int, text: str, end: int) -> str:
        """The summary of `end` turns, told on from `text`, that of `done`, in as many steps as the
        context asks for. Empty if it failed; only an engine's error may be gone the next time."""
        room = self._context - self._most
        try:
            while done < end:
                step, size = await self._step(story, done, text, end, room)
                asked = story.asking(done, text, step)
                text = (await self._reader.write(asked, self._most)).strip() if size <= room else ""
                if not credible(text, asked, story.words):
                    text = ""
                self._keep(story.keys[step], text)
                if not text:
                    break
                done = step
        except EngineError:
            return ""
        return text

    async def _step(
        self, story: _Story, done: int, text: str, end: int, room: int
    ) -> tuple[int, int]:
        """The most turns that can be read at once, and the tokens of asking for their summary."""

        async def tokens(fewer: int) -> int:
            messages = story.asking(done, text, end - fewer)
            return await self._reader.count(replace(story.asked, messages=messages, options={}))

        fewer, size = await fewest(end - done - 1, tokens, room)
        return end - fewer, size

    def _keep(self, key: str, text: str) -> None:
        self._texts[key] = text
        self._texts.move_to_end(key)
        if len(self._texts) > KEPT:
            self._texts.popitem(last=False)


class _Story:
    """A request's messages, told with their first older turns summarised.

    `keys` maps a number of turns to the digest of all messages up to their end.
    """

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.turns: list[Group] = older(asked.messages)
        self.words = words_for(asked.messages)
        self.keys: dict[int, str] = {}
        digest, begin = hashlib.sha256(), 0
        for number, turn in enumerate(self.turns, 1):
            for one in asked.messages[begin : turn[-1] + 1]:
                digest.update(json.dumps(one.to_dict(), sort_keys=True).encode() + b"\n")
            begin = turn[-1] + 1
            self.keys[number] = digest.hexdigest()

    def size(self, end: int) -> int:
        return sum(map(len, self.turns[:end]))

    def told(self, end: int, text: str) -> Asked:
        return replace(self.asked, messages=self._told(end, text, len(self.asked.messages)))

    def asking(self, done: int, text: str, end: int) -> tuple[Message, ...]:
        """The conversation as it was served, up to the end of turn `end`, then the instruction: the
        engine need not read again what its cache holds of it."""
        ask = Message(role="user", content=self.words.ask)
        return (*self._told(done, text, self.turns[end - 1][-1] + 1), ask)

    def _told(self, end: int, text: str, until: int) -> tuple[Message, ...]:
        messages, start = self.asked.messages[:until], self.turns[0][0]
        rest = without(messages, self.turns[:end])[start:]
        # A pair, since every template takes one here; some refuse a second system message.
        pair = (
            Message(role="user", content=f"{self.words.open}\n{text}"),
            Message(role="assistant", content=self.words.agree),
        )
        return (*messages[:start], *(pair if end else ()), *rest)
