"""When an answer must be there: the part that is by then is given, with its end told honestly.

It sits on the stream of chunks, so it is the same on every engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from time import monotonic
from typing import Any

from residency.config import ServedModel, ServeSettings
from residency.errors import EngineTimeout
from residency.serve.asked import Caller, Wishes
from residency.serve.interrupt import Interrupt, Interrupted
from residency.serve.notes import Notes
from residency.serve.tally import Tally

Chunk = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Seconds for a whole answer and, unless None, for its first token."""

    timeout: float
    ttft: float | None


def limits(wishes: Wishes, caller: Caller, model: ServedModel, settings: ServeSettings) -> Limits:
    """The smallest of what request, key, model and settings give."""
    whole = (wishes.timeout, caller.timeout, model.timeout, settings.timeout)
    first = (wishes.ttft_timeout, model.ttft_timeout)
    return Limits(
        timeout=min(one for one in whole if one is not None),
        ttft=min((one for one in first if one is not None), default=None),
    )


async def deadline(
    chunks: AsyncGenerator[Chunk], *, timeout: float, ttft: float | None, notes: Notes
) -> AsyncGenerator[Chunk]:
    """The chunks that come within `timeout` seconds of the first asking; then the engine is left.

    Raises `EngineTimeout` when time is over before a token, `ttft` seconds at the latest, so that
    another engine can be asked. After that each open choice ends with "length", for OpenAI has no
    word for time; `notes.finish` is "deadline", and the usage is what `Tally` knows.
    """
    loop = asyncio.get_running_loop()
    begin = loop.time()
    first = timeout if ttft is None else min(timeout, ttft)
    tally, late = Tally(), Interrupt()
    timer = loop.call_at(begin + first, late)
    try:
        async with aclosing(chunks):
            while True:
                with late:
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return
                began = tally.began
                tally.add(chunk)
                if tally.began and not began:
                    notes.first = notes.first or monotonic()
                    timer.cancel()
                    timer = loop.call_at(begin + timeout, late)
                yield chunk
    except Interrupted:
        pass
    finally:
        timer.cancel()
    if not tally.began:
        raise EngineTimeout(
            f"no token came within {first:g} s", hint="raise timeout or ttft_timeout, or ask less"
        )
    notes.finish = "deadline"
    ends = [{"index": i, "delta": {}, "finish_reason": "length"} for i in sorted(tally.open)]
    yield {"choices": ends}
    yield {"choices": [], "usage": tally.usage(notes)}
