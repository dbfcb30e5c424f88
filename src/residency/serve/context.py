"""Fit a request into the model's context, or refuse it with numbers.

Most requests are small, and a bound on their size shows it without a question to the engine. Only
where it does not are tokens counted, exactly, from the engine's own template.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from residency.config import ContextPolicy
from residency.engines.client import EngineClient
from residency.serve.asked import Asked
from residency.serve.errors import RequestError
from residency.serve.notes import Notes
from residency.serve.summary import Reader, Summaries
from residency.serve.turns import droppable, fewest, rounded, without
from residency.types import Message

FREE_SHARE = 4
"""A request without `max_tokens` is shortened until a quarter of the context is free to answer."""
SPECIAL_TOKENS = 2
"""What a tokenizer may put around a plain prompt: a token that begins it and one that ends it."""
_IN_THE_PROMPT = ("tools", "response_format")


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """What a template adds to the texts of messages, in tokens: `one` to a first one, `pair` to two
    more."""

    one: int
    pair: int


def bound(asked: Asked, frame: Frame) -> int | None:
    """A number of tokens that the prompt cannot exceed; None where the template decides.

    A token stands for one byte of UTF-8 at least, in byte-level BPE and in SentencePiece with byte
    fallback. Each message after the first is charged for a pair, so that a role whose frame is the
    larger of the two is covered.
    """
    if asked.prompt is not None:
        return len(asked.prompt.encode()) + SPECIAL_TOKENS
    if any(one.extra for one in asked.messages) or any(
        asked.options.get(n) for n in _IN_THE_PROMPT
    ):
        return None
    text = sum(len(one.content.encode()) for one in asked.messages)
    return text + frame.one + (len(asked.messages) - 1) * frame.pair


class ContextWindow:
    """The context of one model on one engine, `size` tokens for prompt and answer together.

    It holds what was measured of the template and the summaries written so far, so there is one for
    as long as the build is served. Belongs to one event loop.
    """

    def __init__(self, size: int, reader: Reader) -> None:
        self.size = size
        self._reader = reader
        self._frame: Frame | None = None
        self._summaries = Summaries(reader, size)

    async def fit(self, asked: Asked, policy: ContextPolicy, notes: Notes) -> Asked:
        """`asked`, shortened as `policy` says if it must be; `notes` get the receipt.

        Raises `RequestError` (`context_length_exceeded`) where that is not enough or not allowed,
        and `EngineError` when the engine cannot be asked.
        """
        if asked.prompt is not None:
            policy = "error"
        room = _answer(asked) or (1 if policy == "error" else self.size // FREE_SHARE)
        self._frame = self._frame or await self._measure(asked.model)
        most = bound(asked, self._frame)
        if most is not None and most + room <= self.size:
            return asked
        tokens = await self._reader.count(asked)
        fitted, changed = asked, dict[str, Any]()
        if tokens + room > self.size:
            if policy == "error":
                raise _too_long(asked, tokens, self.size)
            fitted, changed = await self._shorten(asked, policy, self.size - room)
        notes.context = {
            "policy": policy,
            "tokens_before": tokens,
            "tokens_after": tokens,
            "context": self.size,
            "dropped_messages": 0,
            "summarised_messages": 0,
            "summary_cached": False,
            **changed,
        }
        return fitted

    async def count(self, asked: Asked) -> int:
        """The tokens of its prompt, exactly. Raises `EngineError`."""
        return await self._reader.count(asked)

    async def _measure(self, model: str) -> Frame:
        one, two, three = (
            Message(role="user", content="a"),
            Message(role="assistant", content="a"),
            Message(role="user", content="a"),
        )
        first = await self._reader.count(Asked(api="chat", model=model, messages=(one,)))
        whole = await self._reader.count(Asked(api="chat", model=model, messages=(one, two, three)))
        return Frame(one=first, pair=whole - first)

    async def _shorten(
        self, asked: Asked, policy: ContextPolicy, limit: int
    ) -> tuple[Asked, dict[str, Any]]:
        """The request in at most `limit` tokens, and what changes in its receipt."""
        if policy == "prune":
            return await self._prune(asked, limit)
        if short := await self._summaries.shorten(asked, limit):
            return short.asked, {
                "tokens_after": short.tokens,
                "summarised_messages": short.messages,
                "summary_cached": short.cached,
            }
        pruned, changed = await self._prune(asked, limit)
        return pruned, {**changed, "fallback": "prune"}

    async def _prune(self, asked: Asked, limit: int) -> tuple[Asked, dict[str, Any]]:
        """Without the oldest groups: the fewest, rounded up, so that the next turns drop the same
        ones and the engine's prompt cache still hits."""
        groups = droppable(asked.messages)

        def left(gone: int) -> Asked:
            return replace(asked, messages=without(asked.messages, groups[:gone]))

        gone, tokens = await fewest(len(groups), lambda n: self._reader.count(left(n)), limit)
        pruned = left(gone)
        if (even := rounded(gone, len(groups))) > gone:
            gone, pruned = even, left(even)
            tokens = await self._reader.count(pruned)
        if tokens + (_answer(asked) or 1) > self.size:
            raise _too_long(pruned, tokens, self.size, shortened=True)
        return pruned, {"tokens_after": tokens, "dropped_messages": sum(map(len, groups[:gone]))}


def _answer(asked: Asked) -> int:
    return int(asked.options.get("max_tokens") or 0)


def _too_long(asked: Asked, tokens: int, size: int, *, shortened: bool = False) -> RequestError:
    """In OpenAI's words, which clients look for."""
    what = "messages" if asked.prompt is None else "prompt"
    answer = _answer(asked)
    total = f"you requested {tokens + answer} tokens"
    parts = f"{tokens} in the {what}, {answer} in the completion"
    return RequestError(
        f"This model's maximum context length is {size} tokens. However, "
        + ("without the turns that may be dropped, " if shortened else "")
        + (f"{total} ({parts}). " if answer else f"your {what} resulted in {tokens} tokens. ")
        + f"Please reduce the length of the {what}{' or completion' if answer else ''}.",
        code="context_length_exceeded",
        param=what,
    )


class EngineReader:
    """`Reader` on llama.cpp. `client` gives the engine's present client, which changes with each
    start."""

    def __init__(self, client: Callable[[], EngineClient], model: str) -> None:
        self._client = client
        self._model = model

    async def count(self, asked: Asked) -> int:
        if asked.prompt is not None:
            return len(await self._client().tokenize(asked.prompt, add_special=True))
        messages = [one.to_dict() for one in asked.messages]
        return await self._client().count({"messages": messages, **asked.options})

    async def write(self, messages: Sequence[Message], max_tokens: int) -> str:
        body = {
            "model": self._model,
            "messages": [one.to_dict() for one in messages],
            "max_tokens": max_tokens,
            "temperature": 0.0,
            "seed": 0,
        }
        return (await self._client().chat(body)).text
