from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.config import ContextPolicy
from residency.engines.base import EngineSpec
from residency.engines.client import EngineClient
from residency.engines.llama_cpp import LlamaCpp
from residency.serve.asked import Asked
from residency.serve.context import ContextWindow, EngineReader, Frame, bound
from residency.serve.errors import RequestError
from residency.serve.notes import Notes
from residency.types import Message
from tests.serve.reading import LATE, Words, asking, said, talk

SIZE = 512
GENERATION_PROMPT = 4
"""Tokens at the end of a prompt that its successor may not share."""


def fit(
    window: ContextWindow, asked: Asked, policy: ContextPolicy = "error"
) -> tuple[Asked, dict[str, Any]]:
    notes = Notes()
    fitted = asyncio.run(window.fit(asked, policy, notes))
    return fitted, notes.context or {}


def test_a_small_request_asks_the_engine_nothing_once_the_template_is_measured() -> None:
    reader = Words()
    window = ContextWindow(SIZE, reader)
    for _ in range(3):
        asked = asking([said("user", 20)], max_tokens=100)
        assert fit(window, asked) == (asked, {})
    assert len(reader.counted) == 2


def test_tools_are_always_counted() -> None:
    asked = Asked(api="chat", model="m", messages=(said("user", 3),), options={"tools": [{}]})
    assert fit(ContextWindow(SIZE, Words()), asked)[1]["tokens_before"] == 5


def test_what_is_counted_has_a_receipt_even_when_it_fits() -> None:
    asked = asking(talk(10), max_tokens=100)
    fitted, receipt = fit(ContextWindow(SIZE, Words()), asked, "prune")
    assert fitted is asked
    assert receipt == {
        "policy": "prune",
        "tokens_before": 235,
        "tokens_after": 235,
        "context": SIZE,
        "dropped_messages": 0,
        "summarised_messages": 0,
        "summary_cached": False,
    }


def test_error_has_openais_words_and_the_numbers() -> None:
    asked = asking([said("user", 500)], max_tokens=100)
    with pytest.raises(RequestError) as caught:
        fit(ContextWindow(SIZE, Words()), asked)
    assert caught.value.message == (
        "This model's maximum context length is 512 tokens. However, you requested 602 tokens "
        "(502 in the messages, 100 in the completion). "
        "Please reduce the length of the messages or completion."
    )
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "messages")


def test_a_prompt_is_counted_or_refused_whatever_the_policy() -> None:
    window = ContextWindow(SIZE, Words())
    asked = Asked(api="completions", model="m", prompt="word " * 400)
    assert fit(window, asked, "prune")[0] is asked
    long = Asked(api="completions", model="m", prompt="word " * 512)
    with pytest.raises(RequestError, match="your prompt resulted in 512 tokens") as caught:
        fit(window, long, "summarize")
    assert caught.value.param == "prompt"


def test_prune_drops_few_of_the_oldest_turns() -> None:
    asked = asking(talk(30), max_tokens=100)
    fitted, receipt = fit(ContextWindow(SIZE, Words()), asked, "prune")
    assert fitted.messages == (*talk(30)[:3], *talk(30)[-(len(fitted.messages) - 3) :])
    assert receipt["tokens_before"] == 715
    assert SIZE - 100 - 4 * 24 < receipt["tokens_after"] <= SIZE - 100
    assert receipt["dropped_messages"] == 60 - len(fitted.messages)


def test_a_growing_conversation_keeps_its_beginning_for_some_turns() -> None:
    window, second = ContextWindow(SIZE, Words()), []
    for turns in range(24, 36):
        fitted, _ = fit(window, asking(talk(turns), max_tokens=100), "prune")
        second.append(fitted.messages[3].content)
    assert len(set(second)) <= len(second) / 3


def test_prune_leaves_a_quarter_to_answer_in_where_it_can() -> None:
    window = ContextWindow(SIZE, Words())
    assert fit(window, asking(talk(20)), "prune")[1]["tokens_after"] <= SIZE * 3 // 4
    one = asking([said("user", 450)])
    assert fit(window, one, "prune")[0].messages == one.messages


def test_prune_refuses_what_head_and_last_turn_exceed() -> None:
    asked = asking((*talk(10), said("assistant", 1), said("user", 600)))
    with pytest.raises(RequestError, match="without the turns that may be dropped, your messages"):
        fit(ContextWindow(SIZE, Words()), asked, "prune")


def test_summarize_says_what_it_did() -> None:
    window = ContextWindow(SIZE, Words())
    asked = asking(talk(30), max_tokens=100)
    fitted, receipt = fit(window, asked, "summarize")
    assert receipt["summarised_messages"] == 60 - len(fitted.messages) + 2
    assert receipt["tokens_after"] < receipt["tokens_before"]
    assert not receipt["summary_cached"]
    assert fit(window, asked, "summarize") == (fitted, receipt | {"summary_cached": True})


@pytest.mark.parametrize("text", ["", LATE])
def test_a_failed_summary_falls_back_to_pruning(text: Any) -> None:
    asked = asking(talk(30), max_tokens=100)
    pruned, receipt = fit(ContextWindow(SIZE, Words()), asked, "prune")
    fitted, fell = fit(ContextWindow(SIZE, Words(text)), asked, "summarize")
    assert fitted == pruned
    assert fell == receipt | {"policy": "summarize", "fallback": "prune"}


# From here on the real model, with its own template and tokens.


@pytest.fixture(scope="module")
def engine(base_gguf: Path) -> Iterator[LlamaCpp]:
    with LlamaCpp(EngineSpec(model=base_gguf, alias="base", context=SIZE, slots=1)) as running:
        yield running


class Real:
    """One window on the real engine, and what it says of the prompts that it is sent.

    Of each summary only the first line counts, and its numbers do not: SmolLM2 invents them. What
    it writes is tried as it is in `test_the_models_own_summary_is_taken_or_said_to_have_failed`.
    """

    def __init__(self, client: EngineClient) -> None:
        self.client = client
        self.writings = 0
        self.reader = EngineReader(lambda: client, "base")
        self.window = ContextWindow(SIZE, self)

    async def count(self, asked: Asked) -> int:
        return await self.reader.count(asked)

    async def write(self, messages: Any, max_tokens: int) -> str:
        self.writings += 1
        text = await self.reader.write(messages, max_tokens)
        return "Parcels: " + "".join(c for c in text.splitlines()[0] if not c.isdigit())

    async def usage(self, asked: Asked) -> dict[str, int]:
        """What the engine counts: the tokens of the prompt, and those it had in its cache."""
        body = {"messages": [m.to_dict() for m in asked.messages], "temperature": 0.0}
        chunks = [c async for c in self.client.chat_stream({**body, "max_tokens": 1})]
        usage = chunks[-1]["usage"]
        return {
            "prompt": usage["prompt_tokens"],
            "cached": usage["prompt_tokens_details"]["cached_tokens"],
        }


@contextlib.asynccontextmanager
async def real(engine: LlamaCpp) -> AsyncIterator[Real]:
    async with EngineClient(engine.url, engine.key) as client:
        yield Real(client)


ENGLISH_TURN = (
    "And what of parcel {}, sent on Monday?",
    "Parcel {} is in Lyon and comes on Friday.",
)
CHINESE_TURN = ("那么星期一寄出的第{}号包裹呢?", "第{}号包裹在里昂,星期五送到。")


def growing(turn: tuple[str, str], turns: int) -> list[Asked]:
    """The requests of one conversation, each a turn longer than the one before."""
    system = Message(role="system", content="You track parcels.")
    messages, requests = [system], []
    for number in range(turns):
        messages.append(Message(role="user", content=turn[0].format(number)))
        requests.append(asking(messages, max_tokens=64))
        messages.append(Message(role="assistant", content=turn[1].format(number)))
    return requests


TALKS = [
    pytest.param(growing(ENGLISH_TURN, 25)[20::4], id="some"),
    pytest.param(growing(ENGLISH_TURN, 30), id="English", marks=pytest.mark.slow),
    pytest.param(growing(CHINESE_TURN, 30), id="Chinese", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("requests", TALKS)
def test_a_growing_conversation_is_pruned_to_exact_counts(
    engine: LlamaCpp, requests: list[Asked]
) -> None:
    async def run() -> None:
        async with real(engine) as model:
            for asked in [*requests[::-3]][::-1]:  # each is read anew, unlike a summarised one
                notes = Notes()
                fitted = await model.window.fit(asked, "prune", notes)
                used = await model.usage(fitted)
                assert used["prompt"] <= SIZE - 64
                if notes.context:
                    assert notes.context["tokens_after"] == used["prompt"]
            assert notes.context
            assert notes.context["dropped_messages"] > 0

    asyncio.run(run())


@pytest.mark.parametrize("requests", TALKS)
def test_a_growing_conversation_is_summarised_seldom_and_its_prefix_is_cached(
    engine: LlamaCpp, requests: list[Asked]
) -> None:
    async def run() -> None:
        async with real(engine) as model:
            before: tuple[Message, ...] = ()
            fresh = 0
            for asked in requests:
                notes, writings = Notes(), model.writings
                fitted = await model.window.fit(asked, "summarize", notes)
                used = await model.usage(fitted)
                assert used["prompt"] <= SIZE - 64
                receipt = notes.context or {"tokens_after": used["prompt"]}
                assert receipt["tokens_after"] == used["prompt"]
                assert "fallback" not in receipt
                if receipt.get("summarised_messages"):
                    assert receipt["summary_cached"] == (model.writings == writings)
                if model.writings == writings and before:
                    known = await model.count(asking(before))
                    assert fitted.messages[: len(before)] == before
                    assert used["cached"] >= known - GENERATION_PROMPT
                fresh += model.writings > writings
                before = fitted.messages
            assert 1 <= fresh <= max(1, len(requests) // 3)

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.parametrize("turn", [ENGLISH_TURN, CHINESE_TURN])
def test_the_models_own_summary_is_taken_or_said_to_have_failed(
    engine: LlamaCpp, turn: tuple[str, str]
) -> None:
    async def run() -> None:
        async with real(engine) as model:
            window, notes = ContextWindow(SIZE, model.reader), Notes()
            fitted = await window.fit(growing(turn, 20)[-1], "summarize", notes)
            assert notes.context
            assert ("fallback" in notes.context) != (notes.context["summarised_messages"] > 0)
            assert (
                (await model.usage(fitted))["prompt"] == notes.context["tokens_after"] <= SIZE - 64
            )

    asyncio.run(run())


def test_tools_and_prompts_are_counted_as_the_engine_counts_them(engine: LlamaCpp) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    messages = (
        Message(role="user", content="Look! 看!"),
        Message(role="assistant", content="", extra={"tool_calls": [call]}),
        Message(role="tool", content="42", extra={"tool_call_id": "a"}),
    )
    asked = Asked(api="chat", model="base", messages=messages, options={"tools": [tool]})
    prompt = Asked(api="completions", model="base", prompt="Once upon a time, 从前")

    async def run() -> None:
        async with real(engine) as model:
            answer = await model.client.chat(
                {"messages": [m.to_dict() for m in messages], "tools": [tool], "max_tokens": 1}
            )
            assert await model.count(asked) == answer.prompt_tokens
            assert await model.count(prompt) == len(
                await model.client.tokenize(prompt.prompt or "")
            )

    asyncio.run(run())


TEXTS = st.text(max_size=80)


@settings(max_examples=25, deadline=None)
@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=5), st.booleans())
def test_no_prompt_is_longer_than_its_bound(
    engine: LlamaCpp, system: str, texts: list[str], opened: bool
) -> None:
    roles = ("user", "assistant")
    messages = [Message(role=roles[n % 2], content=t) for n, t in enumerate(texts)]  # type: ignore[arg-type]
    if opened:
        messages.insert(0, Message(role="system", content=system))

    async def run() -> tuple[int, int]:
        async with real(engine) as model:
            frame = await model.window._measure("base")
            return await model.count(asking(messages)), bound(asking(messages), frame) or 0

    tokens, most = asyncio.run(run())
    assert tokens <= most


def test_the_frame_of_a_bound_is_charged_for_each_message() -> None:
    frame = Frame(one=30, pair=10)
    assert bound(asking([said("user", 1)]), frame) == 31
    assert bound(asking(talk(2)), frame) == 5 * 7 - 1 + 3 * (3 * 10 - 1) + 30 + 3 * 10
