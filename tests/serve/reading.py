"""A model that counts words and writes what it is told to, for the tests of fitting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Mapping, Sequence
from typing import Any

from residency.errors import EngineError, EngineTimeout
from residency.serve.answer import Answer
from residency.serve.asked import Asked
from residency.types import Message

FRAME = 2


async def collect(chunks: AsyncIterable[Mapping[str, Any]]) -> Answer:
    """The answer that a whole stream amounts to."""
    answer = Answer()
    async for chunk in chunks:
        answer.add(chunk)
    return answer


def said(role: str, words: int, name: str = "w") -> Message:
    return Message(role=role, content=" ".join([name] * words))  # type: ignore[arg-type]


def talk(turns: int, words: int = 10) -> tuple[Message, ...]:
    """A system message and `turns` turns of two messages each, the last without its answer."""
    messages = [said("system", 5, "system")]
    for turn in range(turns):
        messages += [said("user", words, f"q{turn}"), said("assistant", words, f"a{turn}")]
    return tuple(messages[:-1])


def asking(messages: Sequence[Message], **options: int) -> Asked:
    return Asked(api="chat", model="m", messages=tuple(messages), options=options)


class Words:
    """`Reader` by words, with a frame a message. `texts` are written one after the other, the last
    for ever; an error is raised."""

    def __init__(self, *texts: str | EngineError) -> None:
        self.texts = list(texts or ("in short",))
        self.counted: list[Asked] = []
        self.written: list[tuple[Message, ...]] = []

    async def count(self, asked: Asked) -> int:
        self.counted.append(asked)
        if asked.prompt is not None:
            return len(asked.prompt.split())
        return sum(FRAME + len(one.content.split()) for one in asked.messages)

    async def write(self, messages: Sequence[Message], max_tokens: int) -> str:
        self.written.append(tuple(messages))
        await asyncio.sleep(0)
        text = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        if isinstance(text, EngineError):
            raise text
        return text


LATE = EngineTimeout("the engine did not answer in time")
