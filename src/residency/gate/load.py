"""How fast a build answers when several ask at once: first token and tokens/s by users."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from residency.engines.base import Engine
from residency.engines.client import ChatClient
from residency.gate.answers import Answer, Timing, percentile
from residency.gate.ask import TIMEOUT, answer_to
from residency.progress import say
from residency.types import Conversation

EACH = 4
"""Requests of each user, one after the other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """With `users` at once: seconds to the first token (median and 95%), seconds of whole answers
    (95%), and tokens/s of all together."""

    users: int
    ttft: float
    ttft_p95: float
    p95: float
    tokens_per_second: float


def measure(
    engine: Engine, name: str, cases: Sequence[Conversation], users: Sequence[int], limit: int
) -> list[Load]:
    """Time a started engine, which needs as many slots as there are `users` at most."""
    return asyncio.run(_measure(engine, name, cases, users, limit))


async def _measure(
    engine: Engine, name: str, cases: Sequence[Conversation], users: Sequence[int], limit: int
) -> list[Load]:
    found = []
    async with engine.client(TIMEOUT) as client:
        await answer_to(client, cases[0], limit)  # warms up
        for count in users:
            say(f"timing {name} with {count} users")
            # Shared: each takes the next question, so that no two ask the same at once.
            questions = itertools.islice(itertools.cycle(cases), EACH * count)
            start = time.perf_counter()
            got = await asyncio.gather(*[_user(client, questions, limit) for _ in range(count)])
            found.append(_load(count, list(itertools.chain(*got)), time.perf_counter() - start))
    return found


async def _user(
    client: ChatClient, questions: Iterator[Conversation], limit: int
) -> list[tuple[Answer, Timing]]:
    return [await answer_to(client, question, limit) for question in questions]


def _load(users: int, got: Sequence[tuple[Answer, Timing]], seconds: float) -> Load:
    firsts = [timing.ttft for _, timing in got]
    return Load(
        users=users,
        ttft=percentile(firsts, 0.50),
        ttft_p95=percentile(firsts, 0.95),
        p95=percentile([timing.seconds for _, timing in got], 0.95),
        tokens_per_second=round(sum(answer.tokens for answer, _ in got) / seconds, 2),
    )
