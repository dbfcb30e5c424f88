"""Questions to an API that is paid for: some at once, asked again where it stumbles, each answer
kept, and never past a budget."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from residency.config import Priced
from residency.data.journal import Answered, Journal
from residency.engines.client import ChatAnswer, whole
from residency.engines.remote import RemoteClient, most_tokens, price
from residency.errors import (
    EngineError,
    EngineLost,
    EngineRejected,
    EngineTimeout,
    EngineUnavailable,
)
from residency.progress import Progress
from residency.store import sha256_text
from residency.types import Message, to_json

ATTEMPTS = 6
"""How often one question is asked before it counts as failed: about half a minute of waiting."""
FAILURES = 3
"""After so many failed questions in a row the rest is not asked."""
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_REFUSED = (401, 403, 404)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked. `sample` tells repeats of one question apart; `source` names it in errors."""

    messages: tuple[Message, ...]
    temperature: float
    max_tokens: int
    sample: int
    source: str

    def body(self) -> dict[str, Any]:
        """The request, without the model's name."""
        return {
            "messages": [message.to_dict() for message in self.messages],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.sample,
        }


def key_of(api: Priced, question: Question) -> str:
    """What an answer depends on: whoever asks the same of the same model has it already."""
    return sha256_text(to_json([api.url, api.model, question.body()]))


async def ask(
    api: Priced, questions: Sequence[Question], journal: Journal, at_once: int, who: str
) -> None:
    """Have the answer to each of `questions` in `journal`, asking `at_once` at a time. `who` is
    asked: the teacher or the judge.

    Raises `RefusedError` where the budget does not allow the next one, `EngineRejected` where our
    key or the model is refused, and `EngineUnavailable` where others failed; run again then.
    """
    fresh = {key_of(api, one): one for one in questions}
    known = [key for key in fresh if key in journal.answers]
    with Progress(f"asking the {who}", len(fresh)) as progress:
        progress.resume_at(len(known))
        for key in known:
            del fresh[key]
        if fresh:
            await _Asker(api, journal, progress, who).ask(fresh, at_once)


class _Asker:
    def __init__(self, api: Priced, journal: Journal, progress: Progress, who: str) -> None:
        self._who = who
        self._served = api.served
        self._timeout = api.timeout
        self._journal = journal
        self._progress = progress
        self._clear_at = 0.0
        self._failures: list[str] = []
        self._in_a_row = 0

    async def ask(self, questions: dict[str, Question], at_once: int) -> None:
        waiting = iter(questions.items())

        async def work(client: RemoteClient) -> None:
            for key, question in waiting:
                if self._in_a_row >= FAILURES:
                    return
                await self._answer(client, key, question)
                self._progress.advance(note=f"{self._journal.spent:.4g} spent")

        async with RemoteClient(self._served, self._timeout) as client:
            try:
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(min(at_once, len(questions))):
                        tasks.create_task(work(client))
            except BaseExceptionGroup as group:
                raise group.exceptions[0] from None
        if self._failures:
            left = "" if self._in_a_row < FAILURES else "; the rest was not asked"
            raise EngineUnavailable(
                f"the {self._who} gave no answer to {len(self._failures)} of {len(questions)} "
                f"questions{left}: {self._failures[0]}",
                hint="every answer is kept: run again, and only the others are asked",
            )

    async def _answer(self, client: RemoteClient, key: str, question: Question) -> None:
        """Ask until there is an answer, or the attempts are used up."""
        error: EngineError | None = None
        for attempt in range(ATTEMPTS):
            await asyncio.sleep(max(0.0, self._clear_at - time.monotonic()))
            try:
                await self._once(client, key, question)
                self._in_a_row = 0
                return
            except EngineRejected as refusal:
                if refusal.status in _REFUSED:
                    raise
                # It will say so again: there is no answer to this one.
                await self._keep(key, 0.0, Answered(refused=refusal.message))
                return
            except EngineError as failure:
                error = failure
                await self._back_off(failure, attempt)
        self._failures.append(f"{question.source}: {error}")
        self._in_a_row += 1

    async def _once(self, client: RemoteClient, key: str, question: Question) -> None:
        most = price(self._served, most_tokens(question.messages), question.max_tokens)
        await self._journal.reserve(key, most)
        begun = False

        async def watched(chunks: AsyncGenerator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
            nonlocal begun
            async for chunk in chunks:
                begun = True
                yield chunk

        try:
            async with contextlib.aclosing(client.chat_stream(question.body())) as chunks:
                got = await whole(watched(chunks))
        except EngineRejected:
            await self._journal.settle(key, 0.0)
            raise
        except EngineError as error:
            # What went away with the question in its hands may send a bill.
            billed = begun or isinstance(error, EngineLost | EngineTimeout)
            await self._journal.settle(key, most if billed else 0.0)
            raise
        answer = Answered(text=got.text, finish_reason=got.finish_reason)
        await self._journal.settle(key, self._cost(got, most), answer)

    async def _keep(self, key: str, cost: float, answer: Answered) -> None:
        await self._journal.reserve(key, cost)
        await self._journal.settle(key, cost, answer)

    def _cost(self, got: ChatAnswer, most: float) -> float:
        if not got.prompt_tokens:  # it did not say
            return most
        return price(self._served, got.prompt_tokens, got.completion_tokens)

    async def _back_off(self, error: EngineError, attempt: int) -> None:
        """Wait longer each time, and all of us for as long as it asks for."""
        own = min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1.0)
        asked = error.retry_after if isinstance(error, EngineUnavailable) else None
        if asked is not None:
            self._clear_at = max(self._clear_at, time.monotonic() + asked)
        if attempt < ATTEMPTS - 1:
            await asyncio.sleep(max(own, asked or 0.0))
