import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.config import ServedModel, ServeSettings
from residency.engines.client import EngineClient
from residency.errors import EngineTimeout
from residency.serve.answer import Answer
from residency.serve.asked import Caller, Wishes
from residency.serve.deadline import Limits, deadline, limits
from residency.serve.guards import Rules, guard
from residency.serve.notes import Notes
from tests.fakes.engine import FakeEngine
from tests.serve.reading import collect


def part(delta: dict[str, Any], *, index: int = 0, finish: str | None = None, **more: Any) -> Any:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}], **more}


ROLE = part({"role": "assistant", "content": None})


class Engine:
    """Gives `chunks`, then hangs; knows whether it was closed."""

    def __init__(self, *chunks: Any) -> None:
        self.given, self.closed = chunks, False

    async def chunks(self) -> AsyncGenerator[dict[str, Any]]:
        try:
            for chunk in self.given:
                yield chunk
            await asyncio.sleep(3600)
        finally:
            self.closed = True


def ask(
    engine: Engine, notes: Notes, *, timeout: float = 0.05, ttft: float | None = None
) -> Answer:
    chunks = deadline(engine.chunks(), timeout=timeout, ttft=ttft, notes=notes)
    return asyncio.run(collect(chunks))


def test_the_part_that_is_there_is_given() -> None:
    engine, notes = Engine(ROLE, part({"content": "one"}), part({"content": " two"})), Notes()
    answer = ask(engine, notes)
    assert answer.first.text == "one two"
    assert answer.first.finish_reason == "length"
    assert notes.finish == "deadline"
    assert engine.closed


def test_before_a_token_it_is_a_failure() -> None:
    engine = Engine(ROLE)
    with pytest.raises(EngineTimeout):
        ask(engine, Notes())
    assert engine.closed


def test_the_first_token_has_its_own_time() -> None:
    with pytest.raises(EngineTimeout, match=r"within 0\.05 s"):
        ask(Engine(ROLE), Notes(), timeout=3600, ttft=0.05)


def test_after_the_first_token_only_the_whole_counts() -> None:
    async def slow() -> AsyncGenerator[dict[str, Any]]:
        yield part({"content": "a"})
        await asyncio.sleep(0.1)
        yield part({"content": "b"}, finish="stop")

    notes = Notes()
    answer = asyncio.run(collect(deadline(slow(), timeout=3600, ttft=0.01, notes=notes)))
    assert answer.first.text == "ab"
    assert not notes.facts() and notes.first is not None


def test_a_part_of_a_call_is_a_token() -> None:
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}
    answer = ask(Engine(part({"tool_calls": [call]})), Notes())
    assert answer.first.finish_reason == "length"


def test_only_open_choices_are_ended() -> None:
    done = part({"content": "x"}, index=1, finish="stop")
    answer = ask(Engine(part({"content": "y"}), done), Notes())
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[1].finish_reason == "stop"


def test_usage_is_exact_where_the_engine_tells_it_with_each_chunk() -> None:
    timings = {"prompt_n": 3, "cache_n": 4, "predicted_n": 6}
    notes = Notes()
    answer = ask(Engine(part({"content": "many tokens"}, timings=timings)), notes)
    assert answer.usage == {"prompt_tokens": 7, "completion_tokens": 6, "total_tokens": 13}
    assert notes.usage == ""


def test_usage_is_estimated_elsewhere_and_adds_to_what_was_counted() -> None:
    counted = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    first = [part({"content": "a"}, index=1), part({"content": "b"}, index=1, finish="stop")]
    engine = Engine(*first, {"choices": [], "usage": counted}, part({"content": "c"}))
    notes = Notes()
    answer = ask(engine, notes)
    assert answer.usage == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert notes.usage == "estimated"


def test_a_whole_answer_that_is_late_goes_through_the_guard() -> None:
    async def late() -> Answer:
        engine = Engine(ROLE, part({"content": "half a secr"}))
        chunks = deadline(engine.chunks(), timeout=0.05, ttft=None, notes=notes)
        return await collect(guard(chunks, Rules(banned=("secret",), streamed=False), notes))

    notes = Notes()
    answer = asyncio.run(late())
    assert answer.first.text == "half a secr"
    assert notes.finish == "deadline"


def test_the_engine_is_freed(fake: FakeEngine, state: Any) -> None:
    async def late() -> Answer:
        body = {"model": "hang-mid-stream", "messages": [{"role": "user", "content": "a b c"}]}
        async with EngineClient(fake.url, fake.key) as client:
            return await collect(
                deadline(client.chat_stream(body), timeout=0.5, ttft=None, notes=Notes())
            )

    left = state()["left"]
    assert asyncio.run(late()).first.text == "a b"
    for _ in range(100):
        if state()["left"] == left + 1:
            break
        time.sleep(0.02)
    else:
        pytest.fail("the engine still works")


SECONDS = st.none() | st.floats(0.1, 1000)


@given(SECONDS, SECONDS, SECONDS, SECONDS, SECONDS, st.floats(0.1, 1000))
def test_the_smallest_that_is_given_wins(
    wish: float | None,
    first_wish: float | None,
    key: float | None,
    model: float | None,
    first_model: float | None,
    setting: float,
) -> None:
    found = limits(
        Wishes(timeout=wish, ttft_timeout=first_wish),
        Caller(name="k", timeout=key),
        ServedModel(timeout=model, ttft_timeout=first_model),
        ServeSettings(timeout=setting),
    )
    firsts = [one for one in (first_wish, first_model) if one is not None]
    assert found == Limits(
        timeout=min(one for one in (wish, key, model, setting) if one is not None),
        ttft=min(firsts) if firsts else None,
    )
