"""What chunks amount to."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from residency.serve import answer
from tests.serve.reading import collect

EXTRAS = {"id": "engine", "model": "engine", "timings": {"predicted_ms": 3.0}, "__verbose": {}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def chunk(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": None, **more}
    return {**EXTRAS, "choices": [choice]}


async def each(chunks: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for one in chunks:
        yield one


def collected(*chunks: dict[str, Any]) -> answer.Answer:
    return asyncio.run(collect(each(list(chunks))))


def test_chunks_amount_to_one_answer() -> None:
    probability = {"content": [{"token": "a", "logprob": -0.1}]}
    found = collected(
        chunk({"role": "assistant", "content": None}),
        chunk({"content": "Hel"}, logprobs=probability),
        chunk({"content": "lo"}, logprobs=probability),
        chunk({}, finish_reason="stop"),
        {**EXTRAS, "choices": [], "usage": USAGE},
    )
    assert (found.first.text, found.first.finish_reason) == ("Hello", "stop")
    assert found.first.logprobs == probability["content"] * 2
    assert found.usage == USAGE


def test_tool_calls_are_put_together() -> None:
    def piece(index: int, **call: Any) -> dict[str, Any]:
        return chunk({"tool_calls": [{"index": index, **call}]})

    found = collected(
        piece(1, id="b", type="function", function={"name": "g", "arguments": "{}"}),
        piece(0, id="a", type="function", function={"name": "f"}),
        piece(0, function={"arguments": '{"x":'}),
        piece(0, function={"arguments": "1}"}),
        chunk({}, finish_reason="tool_calls"),
    )
    assert found.first.calls == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


def test_the_tokens_of_several_choices_are_added() -> None:
    ends = [{**EXTRAS, "choices": [], "usage": {**USAGE, "more": n}} for n in range(2)]
    counts = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert collected(*ends).usage == {**counts, "more": 1}


def test_a_stop_sequence_is_known_where_the_engine_says_it() -> None:
    words, number = (
        collected(chunk({}, finish_reason="stop", stop_reason=reason)) for reason in ("END", 2)
    )
    assert (words.first.stop, number.first.stop) == ("END", None)


def test_an_answer_without_chunks_has_one_empty_choice() -> None:
    assert collected().first.text == ""
    assert [index for index, _ in collected().in_order()] == [0]


def test_an_event_is_one_line_of_data() -> None:
    lines = answer.event({"text": "a\r\n\n\u2028\u0085你\ud800"}, "name").split(b"\n")
    assert [lines[0], *lines[2:]] == [b"event: name", b"", b""]
    assert len(lines[1].splitlines()) == len(lines[1].decode().splitlines()) == 1
    assert json.loads(lines[1].removeprefix(b"data: "))["text"] == "a\r\n\n\u2028\u0085你\ud800"


def test_an_identity_names_the_build() -> None:
    one = answer.identity("msg_1", model="m", build="0123456789abcdef")
    assert (one.id, one.system_fingerprint) == ("msg_1", "0123456789ab")
