"""The engine's chunks become OpenAI's, and nothing else gets out."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from residency.serve import answer
from tests.serve.releases import release

WHO = answer.Identity(id="chatcmpl-1", created=7, model="clinic-desk", system_fingerprint="abc")
EXTRAS = {"id": "engine", "model": "engine", "timings": {"predicted_ms": 3.0}, "__verbose": {}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def chunk(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": None, **more}
    return {**EXTRAS, "choices": [choice]}


def parsed(event: bytes) -> dict[str, Any]:
    assert event.startswith(b"data: ") and event.endswith(b"\n\n")
    found: dict[str, Any] = json.loads(event[6:])
    return found


async def each(chunks: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for one in chunks:
        yield one


def assembled(*chunks: dict[str, Any]) -> dict[str, Any]:
    return asyncio.run(answer.assemble(each(list(chunks)), WHO))


def test_an_event_has_our_identity_and_no_extras() -> None:
    one = chunk({"content": "né 你"})
    assert parsed(answer.EventWriter(WHO, usage=False).write(one)) == {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "clinic-desk",
        "system_fingerprint": "abc",
        "choices": one["choices"],
    }


def test_usage_is_null_until_the_last_event_when_asked_for() -> None:
    writer = answer.EventWriter(WHO, usage=True)
    assert parsed(writer.write(chunk({"content": "a"})))["usage"] is None
    last = parsed(writer.write({**EXTRAS, "choices": [], "usage": USAGE}))
    assert (last["choices"], last["usage"]) == ([], USAGE)


def test_usage_is_left_out_when_not_asked_for() -> None:
    writer = answer.EventWriter(WHO, usage=False)
    assert writer.write({**EXTRAS, "choices": [], "usage": USAGE}) == b""


def test_chunks_amount_to_one_answer() -> None:
    probability = {"content": [{"token": "a", "logprob": -0.1}]}
    whole = assembled(
        chunk({"role": "assistant", "content": None}),
        chunk({"content": "Hel"}, logprobs=probability),
        chunk({"content": "lo"}, logprobs=probability),
        chunk({}, finish_reason="stop"),
        {**EXTRAS, "choices": [], "usage": USAGE},
    )
    assert whole["object"] == "chat.completion"
    assert whole["usage"] == USAGE
    assert whole["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello"},
            "logprobs": {"content": probability["content"] * 2},
            "finish_reason": "stop",
        }
    ]
    assert "timings" not in whole


def test_tool_calls_are_put_together() -> None:
    def piece(index: int, **call: Any) -> dict[str, Any]:
        return chunk({"tool_calls": [{"index": index, **call}]})

    whole = assembled(
        piece(0, id="a", type="function", function={"name": "f", "arguments": ""}),
        piece(0, function={"arguments": '{"x":'}),
        piece(0, function={"arguments": "1}"}),
        piece(1, id="b", type="function", function={"name": "g", "arguments": "{}"}),
        chunk({}, finish_reason="tool_calls"),
    )
    assert whole["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }


def test_the_fingerprint_names_the_build() -> None:
    one, two = answer.identity(release()), answer.identity(release())
    assert one.system_fingerprint == release().build.digest[:12]
    assert one.id != two.id and one.id.startswith("chatcmpl-")
