"""What an engine is asked for a case with tools, and what counts as its answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from residency import fingerprint
from residency.engines.base import EngineSpec
from residency.engines.llama_cpp import LlamaCpp
from residency.gate.answers import Answer
from residency.gate.ask import answer_to
from residency.gate.score import score
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer, render
from residency.types import Message
from tests.fakes.engine import FakeEngine
from tests.planted import rewritten
from tests.tooled import HERMES, asks, call, conversation


def test_the_tools_are_asked_with_and_a_call_is_the_answer() -> None:
    case = conversation("Free on Tuesday?", call(text="Free on Tuesday?"))

    async def ask() -> tuple[Answer, dict[str, Any]]:
        async with engine.client(30) as client:
            answer, timing = await answer_to(client, case, 16)
            assert 0 < timing.ttft <= timing.seconds
        headers = {"Authorization": f"Bearer {engine.key}"}
        async with aiohttp.request("GET", f"{engine.url}/fake/state", headers=headers) as state:
            return answer, (await state.json())["asked"][-1]

    with FakeEngine("call") as engine:
        answer, asked = asyncio.run(ask())
    assert asked["tools"] == list(case.tools)
    assert answer.finish_reason == "tool_calls"
    assert answer.text == '{"tool": "free_slots", "free_slots.text": "Free on Tuesday?"}'
    assert score("json", answer.text, case.answer).exact


@pytest.mark.slow
def test_llama_cpp_shows_the_model_what_it_was_trained_with(
    base: BaseModel, base_gguf: Path, tmp_path: Path
) -> None:
    """Definitions, calls and their results, in two scripts, through the engine's own Jinja."""
    model = rewritten(base_gguf, tmp_path / "m.gguf", lambda w: w.add_chat_template(HERMES))
    one = conversation("Free on 周二 or <b>later</b>?")
    found = Message(role="tool", content="[9, 11]", extra={"tool_call_id": "call12345"})
    talk = (one.messages[0], asks(call(limit=2, day="周二")), found)
    tokenizer = load_tokenizer(base.path)
    tokenizer.chat_template = HERMES

    async def ask() -> tuple[str, fingerprint.Fingerprint]:
        async with engine.client(60) as client:
            text = await client.apply_template(talk, one.tools)
            return text, await fingerprint.take_engine(client, [one])

    with LlamaCpp(EngineSpec(model=model, alias="m", context=512, slots=1)) as engine:
        text, taken = asyncio.run(ask())
    assert text == render(tokenizer, talk, answer=False, tools=one.tools).text
    whole = render(tokenizer, one.messages, answer=True, tools=one.tools)
    assert taken.probes[0].ids == whole.ids[:-1]
