from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import aiohttp
import pytest

from residency.engines.client import EngineClient, Load, engine_errors
from residency.engines.llama_cpp import LlamaCpp
from residency.errors import EngineError, EngineRejected, EngineTimeout, EngineUnavailable
from residency.models.base import BaseModel
from residency.types import Message
from tests.fakes.engine import FakeEngine
from tests.fakes.openai_engine import STATUSES

T = TypeVar("T")
Engine = LlamaCpp | FakeEngine

FOUR_WORDS = [{"role": "user", "content": "one two three four"}]
TURN = [Message(role="user", content="Where is the pharmacy? 药房在哪里?")]


def asking(
    engine: Engine, question: Callable[[EngineClient], Awaitable[T]], timeout: float = 30.0
) -> T:
    async def run() -> T:
        async with EngineClient(engine.url, engine.key, timeout) as client:
            return await question(client)

    return asyncio.run(run())


def chat(engine: Engine, model: str, timeout: float = 30.0) -> str:
    body = {"model": model, "messages": FOUR_WORDS}
    return asking(engine, lambda client: client.chat(body), timeout).text


async def state(engine: Engine, path: str) -> Any:
    headers = {"Authorization": f"Bearer {engine.key}"}
    async with aiohttp.request("GET", engine.url + path, headers=headers) as response:
        return await response.json()


def test_chat_gathers_a_stream_whatever_the_body_says(fake: FakeEngine) -> None:
    body = {"model": "echo", "messages": FOUR_WORDS, "stream": False}
    answer = asking(fake, lambda client: client.chat(body))
    assert (answer.text, answer.finish_reason) == ("one two three four", "stop")
    assert (answer.prompt_tokens, answer.completion_tokens) == (4, 4)
    assert 0 < answer.ttft <= answer.seconds


@pytest.mark.parametrize("status", ["400", "401", "429", "500"])
def test_refusals_carry_status_and_the_engines_words(fake: FakeEngine, status: str) -> None:
    with pytest.raises(EngineRejected) as caught:
        chat(fake, status)
    assert caught.value.status == int(status)
    assert caught.value.message == STATUSES[status]


def test_error_event_in_a_stream_is_a_refusal(fake: FakeEngine) -> None:
    with pytest.raises(EngineRejected, match="decode failed") as caught:
        chat(fake, "error-mid-stream")
    assert caught.value.status == 500


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("503", "Loading model"),
        ("drop", "went away"),
        ("die-mid-stream", "in the middle of an answer"),
        ("end-early", "in the middle of an answer"),
        ("exit", "in the middle of an answer"),
        ("not-json", "in the middle of an answer"),
    ],
)
def test_an_engine_that_goes_away_is_unavailable(fake: FakeEngine, model: str, words: str) -> None:
    with pytest.raises(EngineUnavailable, match=words):
        chat(fake, model)


@pytest.mark.parametrize("model", ["hang", "hang-mid-stream", "long"])
def test_a_whole_request_has_one_time_limit(fake: FakeEngine, model: str) -> None:
    with pytest.raises(EngineTimeout):
        chat(fake, model, timeout=0.3)


def test_nobody_listens(fake: FakeEngine) -> None:
    fake.stop()
    with pytest.raises(EngineUnavailable, match="cannot be reached"):
        chat(fake, "echo")
    assert asking(fake, lambda client: client.health()) is False


def test_connection_that_breaks_before_the_answer_is_tried_once_more(fake: FakeEngine) -> None:
    assert chat(fake, "drop-once") == "one two three four"

    async def asked() -> int:
        return len((await state(fake, "/fake/state"))["asked"])

    assert asyncio.run(asked()) == 2


def test_broken_stream_is_not_tried_again(fake: FakeEngine) -> None:
    with pytest.raises(EngineUnavailable):
        chat(fake, "die-mid-stream")
    assert len(asyncio.run(state(fake, "/fake/state"))["asked"]) == 1


def test_requests_share_a_connection(fake: FakeEngine) -> None:
    async def ports(client: EngineClient) -> set[int]:
        seen = set()
        for _ in range(3):
            await client.chat({"model": "echo", "messages": FOUR_WORDS})
            seen.add((await state(fake, "/fake/state"))["connections"])
        return seen

    assert len(asking(fake, ports)) == 1


@pytest.mark.parametrize("how", ["aclose", "cancel"])
def test_leaving_a_stream_tells_the_engine(fake: FakeEngine, how: str) -> None:
    async def leave(client: EngineClient) -> dict[str, int]:
        body = {"model": "long", "messages": FOUR_WORDS}
        if how == "aclose":
            chunks = client.chat_stream(body)
            await anext(chunks)
            await chunks.aclose()
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.chat(body), 0.3)
        for _ in range(100):
            seen: dict[str, int] = await state(fake, "/fake/state")
            if seen["left"]:
                break
            await asyncio.sleep(0.02)
        return seen

    seen = asking(fake, leave)
    assert (seen["at_work"], seen["left"]) == (0, 1)


def test_closed_client_asks_no_more(fake: FakeEngine) -> None:
    async def close(client: EngineClient) -> None:
        at_work = asyncio.create_task(client.chat({"model": "hang", "messages": FOUR_WORDS}))
        await asyncio.sleep(0.1)
        await client.close()
        with pytest.raises(EngineUnavailable):
            await at_work
        with pytest.raises(EngineUnavailable):
            await client.chat({"messages": FOUR_WORDS})

    asking(fake, close)


def test_cancelled_stream_frees_the_real_engines_slot(engine: LlamaCpp) -> None:
    async def leave(client: EngineClient) -> bool:
        body = {"messages": FOUR_WORDS, "max_tokens": 400, "ignore_eos": True}
        chunks = client.chat_stream(body)
        async for chunk in chunks:
            if chunk["choices"][0]["delta"].get("content"):
                break
        assert any(slot["is_processing"] for slot in await state(engine, "/slots"))
        await chunks.aclose()
        for _ in range(100):
            if not any(slot["is_processing"] for slot in await state(engine, "/slots")):
                return True
            await asyncio.sleep(0.02)
        return False

    assert asking(engine, leave)


def test_wrong_key_is_refused(engine: LlamaCpp) -> None:
    async def ask() -> None:
        async with EngineClient(engine.url, "wrong") as client:
            await client.chat({"messages": FOUR_WORDS})

    with pytest.raises(EngineRejected) as caught:
        asyncio.run(ask())
    assert caught.value.status == 401


def test_request_over_the_context_is_refused(engine: LlamaCpp) -> None:
    body = {"messages": [{"role": "user", "content": "word " * 900}]}
    with pytest.raises(EngineRejected, match="exceeds the available context size") as caught:
        asking(engine, lambda client: client.chat(body))
    assert caught.value.status == 400


def test_props_and_health_of_the_real_engine(engine: LlamaCpp) -> None:
    props = asking(engine, lambda client: client.props())
    assert props["total_slots"] == engine.spec.slots
    assert props["default_generation_settings"]["n_ctx"] == engine.spec.context
    assert "<|im_start|>" in props["chat_template"]
    assert asking(engine, lambda client: client.health())


def test_the_load_of_an_engine(engine: LlamaCpp, fake: FakeEngine) -> None:
    async def look(client: EngineClient) -> tuple[Load | None, Load | None]:
        await client.chat({"messages": FOUR_WORDS, "max_tokens": 2})
        idle = await client.load()
        stream = client.chat_stream({"messages": FOUR_WORDS, "max_tokens": 200})
        async with aclosing(stream):
            await anext(stream)
            return idle, await client.load()

    idle, busy = asking(engine, look)
    assert idle and busy
    assert idle.slots == engine.spec.slots
    assert idle.cache and 0 < idle.cache < 1
    assert busy.busy >= 1
    assert asking(fake, lambda client: client.load()) is None  # it does not say


def test_same_seed_same_answer(engine: LlamaCpp) -> None:
    body = {"messages": FOUR_WORDS, "max_tokens": 12, "temperature": 0, "seed": 7}
    answers = {asking(engine, lambda client: client.chat(body)).text for _ in range(3)}
    assert len(answers) == 1


def test_the_stop_sequence_that_ended_an_answer_is_told(engine: LlamaCpp) -> None:
    question = [{"role": "user", "content": "Count from 1 to 10."}]
    body = {"messages": question, "max_tokens": 40, "temperature": 0, "verbose": True}

    async def ends(client: EngineClient, **more: Any) -> list[Any]:
        chunks = client.stream({**body, **more})
        parts = [one for chunk in [c async for c in chunks] for one in chunk["choices"]]
        assert not any("3" in (one["delta"].get("content") or "") for one in parts if more)
        return [one.get("stop_reason") for one in parts if one["finish_reason"]]

    assert asking(engine, lambda client: ends(client, stop=["banana", "3"])) == ["3"]
    assert asking(engine, ends) == [None]


def test_prompt_tokens_and_logprobs_are_those_of_transformers(
    engine: LlamaCpp, base: BaseModel
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    async def ask(client: EngineClient) -> tuple[list[int], list[tuple[int, float]]]:
        ids = await client.tokenize(await client.apply_template(TURN))
        return ids, await client.top_logprobs(ids, 5)

    ids, top = asking(engine, ask)
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    messages = [message.to_dict() for message in TURN]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]

    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0, -1]
    expected = torch.log_softmax(logits, dim=-1)
    assert top[0][0] == int(expected.argmax())
    assert len(top) == 5
    for token, value in top:
        # The engine rounds activations to 8 bits beside the 4-bit weights: 0.26 was seen over
        # six prompts, and 0.007 with f16.
        assert value == pytest.approx(float(expected[token]), abs=0.35)


def test_log_probabilities_come_also_where_no_text_would(engine: LlamaCpp) -> None:
    """Left alone, llama.cpp gives none where it would say part of a character or end its turn."""

    async def ask(client: EngineClient) -> list[tuple[bool, int]]:
        ids = await client.tokenize("<|im_start|>user\n你好，世界。谢谢你们！<|im_end|>\n")
        found = []
        for length in range(4, len(ids) + 1):
            plain = {"prompt": ids[:length], "n_predict": 1, "n_probs": 5, "temperature": 0.0}
            alone = await client._ask("/completion", plain)
            top = await client.top_logprobs(ids[:length], 5)
            found.append(("completion_probabilities" in alone, len(top)))
        return found

    found = asking(engine, ask)
    assert {count for _, count in found} == {5}
    assert not all(given for given, _ in found)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (TimeoutError(), EngineTimeout),
        (aiohttp.ServerTimeoutError(), EngineTimeout),
        (aiohttp.ServerDisconnectedError(), EngineUnavailable),
        (aiohttp.ClientOSError(104, "reset"), EngineUnavailable),
        (aiohttp.ClientPayloadError("cut"), EngineUnavailable),
        (aiohttp.ClientError("any other"), EngineUnavailable),
        (json.JSONDecodeError("not JSON", "<", 0), EngineUnavailable),
    ],
)
def test_every_error_of_the_http_client_becomes_ours(
    error: Exception, ours: type[EngineError]
) -> None:
    with pytest.raises(ours), engine_errors():
        raise error
