"""Other APIs' bodies, and streams, in the form of OpenAI's chat."""

import json
from typing import Any

import pytest

from residency.traffic.logs import bodies
from tests.traffic.logs.records import ANSWER, ASKED


def said(response: Any) -> tuple[str, str, list[Any]]:
    api, body = bodies.answered(response)
    assert body is not None
    message = body["choices"][0]["message"]
    return api, message["content"], message.get("tool_calls", [])


CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "find", "arguments": '{"card": 7}'},
}


def test_chat_stays_as_it_is() -> None:
    assert bodies.asked(ASKED) == ("", ASKED)
    assert bodies.asked(json.dumps(ASKED)) == ("", ASKED)
    assert bodies.answered(ANSWER) == ("", ANSWER)
    assert bodies.answered({"status": 200, "body": json.dumps(ANSWER)}) == ("", ANSWER)


def test_anthropic_both_ways() -> None:
    given = {
        "model": "claude",
        "system": [{"type": "text", "text": "Be kind."}],
        "messages": [
            {"role": "user", "content": "Where is it?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me see."},
                    {"type": "tool_use", "id": "c1", "name": "find", "input": {"card": 7}},
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "posted"}],
            },
        ],
    }
    api, body = bodies.asked(given)
    assert (api, body["model"], "system" in body) == ("messages", "claude", False)
    assert body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Where is it?"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "posted"},
    ]
    answer = {
        "type": "message",
        "content": [
            {"type": "text", "text": "It was posted."},
            {"type": "tool_use", "id": "c1", "name": "find", "input": {"card": 7}},
        ],
        "usage": {"input_tokens": 30, "cache_read_input_tokens": 10, "output_tokens": 5},
    }
    assert said(answer) == ("messages", "It was posted.", [CALL])
    assert bodies.used(answer["usage"]) == (40, 5)


def test_responses_both_ways() -> None:
    item = {"type": "function_call", "call_id": "c1", "name": "find", "arguments": '{"card": 7}'}
    given = {
        "model": "gpt",
        "instructions": "Be kind.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Where is it?"}]},
            item,
            {"type": "function_call_output", "call_id": "c1", "output": "posted"},
        ],
    }
    api, body = bodies.asked(given)
    assert api == "responses"
    assert body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Where is it?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "posted", "tool_call_id": "c1"},
    ]
    message = {"type": "message", "content": [{"type": "output_text", "text": "It was posted."}]}
    thought = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]}
    answer = {"output": [thought, message, item]}
    assert said(answer) == ("responses", "It was posted.", [CALL])


def chunk(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "s1", "model": "gpt", "choices": [{"index": 0, "delta": delta, **more}]}


CHUNKS = [
    chunk({"role": "assistant", "content": "On "}),
    chunk({"content": "its way."}),
    chunk({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "find"}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"card": 7}'}}]}),
    chunk({}, finish_reason="tool_calls"),
    {"id": "s1", "choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}},
]
EVENTS = [
    {"type": "message_start", "message": {"model": "claude", "usage": {"input_tokens": 4}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "On "}},
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "its way."},
    },
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "tool_use", "id": "c1", "name": "find", "input": {}},
    },
    {"type": "content_block_delta", "index": 1, "delta": {"partial_json": '{"card":'}},
    {"type": "content_block_delta", "index": 1, "delta": {"partial_json": " 7}"}},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}},
]


@pytest.mark.parametrize("pieces", [CHUNKS, EVENTS], ids=["openai", "anthropic"])
@pytest.mark.parametrize("form", ["objects", "json", "sse", "under a key"])
def test_a_stream_is_put_together(pieces: list[dict[str, Any]], form: str) -> None:
    lines = [f"data: {json.dumps(one)}" for one in pieces]
    logged: Any = {
        "objects": pieces,
        "json": [json.dumps(one) for one in pieces],
        "sse": "\n\n".join([*lines, "data: [DONE]"]),
        "under a key": {"chunks": pieces},
    }[form]
    _, text, calls = said(logged)
    assert (text, calls) == ("On its way.", [CALL])
    body = bodies.answered(logged)[1]
    assert body is not None
    assert bodies.used(body["usage"]) == (4, 2)
    assert body["choices"][0]["finish_reason"] in ("tool_calls", "tool_use")


@pytest.mark.parametrize("text", ["plain", '{"intent": "card"}', '["a", "b"]', "{not json"])
def test_text_that_looks_like_json_stays_text(text: str) -> None:
    assert said(text)[1] == text
    assert bodies.asked(text)[1]["messages"] == [{"role": "user", "content": text}]


def test_vectors_are_left_out() -> None:
    answer = {"data": [{"embedding": [0.1]}], "usage": {"prompt_tokens": 3}}
    assert bodies.answered(answer) == ("embeddings", {"usage": {"prompt_tokens": 3}})
    assert bodies.asked({"model": "e", "input": "hi"}, "embeddings")[0] == "embeddings"
