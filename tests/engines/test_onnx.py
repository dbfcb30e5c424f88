"""ONNX Runtime on a small specialist; what needs the carried model is slow."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
import json
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from residency.engines.base import EngineSpec
from residency.engines.client import EngineClient
from residency.engines.onnx import Onnx
from residency.engines.onnx_model import CHUNK
from residency.errors import EngineLoadError, EngineRejected, MissingError
from residency.export.onnx import make
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer, render
from residency.store import digest_tree
from residency.types import Message
from tests.engines.processes import eventually, gone
from tests.specialist import Specialist

QUESTION = {"messages": [{"role": "user", "content": "Say yes."}], "temperature": 0}
END = 2  # SmolLM2's <|im_end|>
Result = TypeVar("Result")


@pytest.fixture(scope="session")
def folder(specialist: Specialist, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("onnx") / "model"
    make(specialist.base.path, target, "fp32")
    return target


@pytest.fixture(scope="session")
def small(folder: Path) -> EngineSpec:
    return EngineSpec(model=folder, alias="small", context=256, slots=2, sha256=digest_tree(folder))


@pytest.fixture(scope="session")
def onnx(small: EngineSpec) -> Iterator[Onnx]:
    with Onnx(small) as running:
        yield running


def run(engine: Onnx, ask: Callable[[EngineClient], Awaitable[Result]]) -> Result:
    async def once() -> Result:
        async with engine.client(120) as client:
            return await ask(client)

    return asyncio.run(once())


async def chunks(client: EngineClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    return [chunk async for chunk in client.stream(body)]


def long(tokens: int) -> dict[str, Any]:
    """An answer that does not end by itself."""
    return {**QUESTION, "max_tokens": tokens, "logit_bias": {str(END): -100}}


def greedy(folder: Path, question: str, tokens: int) -> str:
    """What transformers answers."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    asked = render(tokenizer, [Message(role="user", content=question)], answer=False)
    made = model.generate(
        torch.tensor([asked.ids]),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=END,
        pad_token_id=END,
    )
    return str(tokenizer.decode(made[0][len(asked.ids) :], skip_special_tokens=True))


def asked_as(question: str, **more: Any) -> dict[str, Any]:
    return {**QUESTION, "messages": [{"role": "user", "content": question}], **more}


def test_it_answers_as_transformers_does(onnx: Onnx, specialist: Specialist) -> None:
    for question in ("Is the lab open?", "我想改约到下周三。"):
        answer = run(onnx, lambda c, q=question: c.chat(asked_as(q, max_tokens=24)))  # type: ignore[misc]
        assert answer.text == greedy(specialist.base.path, question, 24)
        assert len(answer.text) > 24


def test_it_counts_and_renders_as_training_does(onnx: Onnx, folder: Path) -> None:
    async def ask(client: EngineClient) -> None:
        messages = [Message(role="user", content="Say yes.")]
        rendered = render(load_tokenizer(folder), messages, answer=False)
        assert await client.apply_template(messages) == rendered.text
        assert tuple(await client.tokenize(rendered.text)) == rendered.ids
        assert await client.count(QUESTION) == len(rendered.ids)
        answer = await client.chat(long(7))
        assert (answer.prompt_tokens, answer.completion_tokens) == (len(rendered.ids), 7)
        assert answer.finish_reason == "length"
        assert await client.health()

    run(onnx, ask)


def test_a_stop_token_and_a_stop_string_end_an_answer(onnx: Onnx) -> None:
    async def ask(client: EngineClient) -> None:
        ended = await client.chat({**long(9), "logit_bias": {str(END): 100}})
        assert (ended.text, ended.finish_reason, ended.completion_tokens) == ("", "stop", 1)
        whole = (await client.chat(long(20))).text
        stop = whole[10:14]
        cut = [chunk["choices"] for chunk in await chunks(client, {**long(20), "stop": stop})]
        text = "".join(one["delta"]["content"] for choices in cut for one in choices)
        assert text == whole.partition(stop)[0]
        assert (cut[-2][0]["finish_reason"], cut[-2][0]["stop_reason"]) == ("stop", stop)

    run(onnx, ask)


def test_log_probabilities_are_the_models_own(onnx: Onnx) -> None:
    async def ask(client: EngineClient) -> None:
        ids = await client.tokenize(
            await client.apply_template([Message(role="user", content="a")])
        )
        top = await client.top_logprobs(ids, 3)
        # Whatever moves the choice leaves them as they are.
        moved = {"temperature": 1.5, "seed": 1, "logit_bias": {str(top[0][0]): -50}}
        body = {**asked_as("a", max_tokens=1), **moved, "logprobs": True, "top_logprobs": 3}
        told = (await chunks(client, body))[0]["choices"][0]["logprobs"]["content"][0]
        assert [one["logprob"] for one in told["top_logprobs"]] == [p for _, p in top]
        assert told["logprob"] < top[0][1] < 0
        assert bytes(told["bytes"]).decode() == told["token"]

    run(onnx, ask)


@pytest.mark.parametrize("length", [CHUNK - 3, CHUNK])
def test_a_turn_may_end_where_a_part_of_the_prompt_does(
    onnx: Onnx, specialist: Specialist, length: int
) -> None:
    """SmolLM2 ends a turn with the token that it pads with."""
    import torch
    from transformers import AutoModelForCausalLM

    ids = [*range(100, 100 + length - 1), END]
    model = AutoModelForCausalLM.from_pretrained(specialist.base.path, dtype=torch.float32).eval()
    for asked in (ids, [*ids, 7]):
        with torch.no_grad():
            expected = torch.log_softmax(model(torch.tensor([asked])).logits[0, -1], -1)
        for token, found in run(onnx, lambda c, a=asked: c.top_logprobs(a, 3)):  # type: ignore[misc]
            assert found == pytest.approx(expected[token].item(), abs=1e-3)


def test_a_seed_repeats_a_sample_and_another_does_not(onnx: Onnx) -> None:
    async def ask(client: EngineClient) -> list[str]:
        wishes = long(16) | {"temperature": 2.0}
        return [(await client.chat(wishes | {"seed": seed})).text for seed in (1, 1, 2)]

    one, again, other = run(onnx, ask)
    assert one == again != other


def test_a_schema_is_obeyed_and_a_wrong_one_refused(onnx: Onnx) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"n": {"enum": [7, 8]}},
        "required": ["n"],
        "additionalProperties": False,
    }

    def form(schema: dict[str, Any]) -> dict[str, Any]:
        asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        return {**QUESTION, "max_tokens": 60, "response_format": asked}

    answer = run(onnx, lambda client: client.chat(form(schema)))
    assert json.loads(answer.text)["n"] in (7, 8)
    with pytest.raises(EngineRejected, match="Invalid type") as caught:
        run(onnx, lambda client: client.chat(form({"type": "nonsense"})))
    assert caught.value.status == 400


def test_a_plain_prompt_is_gone_on_with(onnx: Onnx) -> None:
    async def ask(client: EngineClient) -> None:
        prompt = await client.apply_template([Message(role="user", content="Say yes.")])
        plain = [c async for c in client.text_stream({**long(6), "prompt": prompt, "logprobs": 1})]
        whole = await client.chat(long(6))
        text = "".join(one["delta"]["content"] for c in plain for one in c["choices"])
        assert text == whole.text
        assert len(plain[0]["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 1

    run(onnx, ask)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": [{"role": "user", "content": "a " * 400}]}, "tokens, the context 256"),
        ({"max_tokens": 0}, "max_tokens: "),
        ({"messages": [{"content": "a"}]}, "cannot be read: KeyError.'role'"),
        ({"response_format": {"type": "json_schema"}}, "cannot be read: KeyError"),
    ],
)
def test_what_cannot_be_answered_is_refused(onnx: Onnx, change: dict[str, Any], words: str) -> None:
    with pytest.raises(EngineRejected, match=words) as caught:
        run(onnx, lambda client: client.chat({**QUESTION, **change}))
    assert caught.value.status == 400


def test_strangers_are_turned_away(onnx: Onnx) -> None:
    async def ask() -> None:
        async with EngineClient(onnx.url, "wrong") as stranger:
            assert await stranger.health()
            await stranger.props()

    with pytest.raises(EngineRejected) as caught:
        asyncio.run(ask())
    assert caught.value.status == 401


def test_who_leaves_frees_the_slot(onnx: Onnx) -> None:
    """There are two slots, so the next answer comes when one before it was given up or done."""

    def computed() -> float:
        return sum(psutil.Process(onnx.pid).cpu_times()[:2])

    async def ask(client: EngineClient) -> tuple[float, float]:
        slow = {**long(200), "logprobs": True, "top_logprobs": 200}
        begin = computed()
        await client.chat(slow)
        whole = computed()
        for _ in range(2):
            async with contextlib.aclosing(client.chat_stream(slow)) as left:
                await anext(left)
        await client.chat(long(1))
        return whole - begin, computed() - whole

    whole, left = run(onnx, ask)
    assert left < whole / 2


def test_answers_go_on_side_by_side(onnx: Onnx) -> None:
    async def ask(client: EngineClient) -> list[str]:
        order: list[str] = []

        async def user(name: str) -> None:
            async with contextlib.aclosing(client.chat_stream(long(40))) as answer:
                async for _ in answer:
                    order.append(name)

        await asyncio.gather(user("a"), user("b"))
        return order

    order = run(onnx, ask)
    assert len(order) == 82  # forty tokens each, and the usage
    assert {"a", "b"} == set(order[20:62])


@pytest.mark.slow
def test_start_again_after_a_kill(small: EngineSpec) -> None:
    engine = Onnx(small)
    engine.start()
    before = run(engine, lambda client: client.chat(long(5))).text
    first = engine.pid
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: not engine.alive())
    assert "killed by SIGKILL" in engine.last_words()
    engine.start()
    assert run(engine, lambda client: client.chat(long(5))).text == before
    second = engine.pid
    engine.stop()
    assert gone(second)


def test_what_cannot_be_loaded_is_said(small: EngineSpec, tmp_path: Path) -> None:
    with pytest.raises(EngineLoadError, match=r"genai_config\.json is missing"):
        Onnx(dataclasses.replace(small, model=tmp_path)).start()
    with pytest.raises(EngineLoadError, match="its bytes have changed"):
        Onnx(dataclasses.replace(small, sha256="0" * 64)).start()
    cut = tmp_path / "cut"
    shutil.copytree(small.model, cut)
    os.truncate(cut / "model.onnx", 1000)
    with pytest.raises(EngineLoadError, match=r"ONNX Runtime cannot load it: .*model\.onnx"):
        Onnx(dataclasses.replace(small, model=cut, sha256="")).start()


def test_without_its_packages_it_is_missing(
    small: EngineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingError) as caught:
        Onnx(small).start()
    assert caught.value.hint == "install it with: pip install 'residency[onnx]'"


@pytest.mark.slow
def test_the_carried_model_answers_as_in_transformers(base: BaseModel, tmp_path: Path) -> None:
    make(base.path, tmp_path / "model", "fp32")
    spec = EngineSpec(model=tmp_path / "model", alias="base", context=512, slots=2)
    questions = ("What is the sea?", "List three fruits.", "为什么天是蓝的？", "Write one line.")
    with Onnx(spec) as engine:
        for question in questions:
            answer = run(engine, lambda c, q=question: c.chat(asked_as(q, max_tokens=32)))  # type: ignore[misc]
            assert answer.text == greedy(base.path, question, 32)
