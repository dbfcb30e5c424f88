"""The edge: what is let in, what is refused, and how the refusal names its cause."""

import json
from typing import Any

import pytest

from residency.serve.errors import RequestError
from residency.serve.schema import parse

USER = {"role": "user", "content": "hello"}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [USER], **fields}).encode()


def refusal(data: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse(data)
    return caught.value


def test_a_request_with_every_field_is_taken() -> None:
    asked = parse(
        body(
            stream=True,
            stream_options={"include_usage": True},
            temperature=1,
            top_p=0.9,
            max_completion_tokens=5,
            stop=["a", "b"],
            seed=3,
            n=1,
            frequency_penalty=-2,
            presence_penalty=2,
            logprobs=True,
            top_logprobs=3,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
            tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
            tool_choice="auto",
            user="u",
            metadata={"k": "v"},
        )
    )
    assert asked.temperature == 1.0
    assert asked.stop == ["a", "b"]
    assert asked.stream_options is not None and asked.stream_options.include_usage


def test_null_means_not_given() -> None:
    asked = parse(body(temperature=None, stop=None, max_tokens=None, stream=None))
    assert (asked.temperature, asked.stop, asked.max_tokens, asked.stream) == (None,) * 4


def test_text_parts_become_one_text() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    asked = parse(body(messages=[{"role": "user", "content": parts}]))
    assert asked.messages[0].content == "one\ntwo"


def test_an_answer_of_the_official_client_can_be_sent_back() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    echoed = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": [call],
    }
    result = {"role": "tool", "content": "4", "tool_call_id": "c"}
    asked = parse(body(messages=[USER, echoed, result]))
    assert asked.messages[1].tool_calls == [call]


@pytest.mark.parametrize(
    ("data", "param", "code", "words"),
    [
        (b"{not json", None, "invalid_json", "not JSON"),
        (b"", None, "invalid_json", "not JSON"),
        (b"\xff\xfe", None, "invalid_json", "not JSON"),
        (b"[" * 100_000, None, "invalid_json", "not JSON"),
        (b"[]", None, "invalid_value", "object"),
        (body(temprature=1), "temprature", "unknown_parameter", "did you mean temperature?"),
        (body(zzz=1), "zzz", "unknown_parameter", "known here: frequency_penalty"),
        (
            body(messages=[{**USER, "contents": "x"}]),
            "messages[0].contents",
            "unknown_parameter",
            "did you mean content?",
        ),
        (
            body(stream=True, stream_options={"include_usages": True}),
            "stream_options.include_usages",
            "unknown_parameter",
            "did you mean include_usage?",
        ),
        (b'{"model": "m"}', "messages", "missing_required_parameter", "messages is missing"),
        (body(messages=[]), "messages", "invalid_value", "at least 1"),
        (
            body(messages=[{"role": "robot", "content": "x"}]),
            "messages[0].role",
            "invalid_value",
            "",
        ),
        (body(messages=[{"role": "user"}]), "messages[0]", "invalid_value", "needs content"),
        (body(messages=[{"role": "tool", "content": "x"}]), "messages[0]", "invalid_value", "tool"),
        (
            body(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
            "messages[0].content",
            "invalid_value",
            "text only, not a part of type 'image_url'",
        ),
        (
            body(messages=[{"role": "user", "content": [{"type": "text", "text": "a", "b": 1}]}]),
            "messages[0].content",
            "invalid_value",
            "nothing else",
        ),
        (
            body(messages=[{"role": "user", "content": 3}]),
            "messages[0].content",
            "invalid_value",
            "",
        ),
        (body(temperature=2.1), "temperature", "invalid_value", "less than or equal to 2"),
        (body(temperature=-0.1), "temperature", "invalid_value", ""),
        (body(temperature="1"), "temperature", "invalid_value", "number"),
        (body(temperature=float("nan")), "temperature", "invalid_value", "finite"),
        (body(top_p=1.5), "top_p", "invalid_value", ""),
        (body(max_tokens=0), "max_tokens", "invalid_value", ""),
        (body(max_tokens=5, max_completion_tokens=6), None, "invalid_value", "not both"),
        (body(n=2), "n", "invalid_value", "1"),
        (body(seed=-1), "seed", "invalid_value", ""),
        (body(seed=2**32 - 1), "seed", "invalid_value", ""),
        (body(stop=["a"] * 5), "stop", "invalid_value", "at most 4"),
        (body(stop=""), "stop[0]", "invalid_value", "at least 1"),
        (body(top_logprobs=2), None, "invalid_value", "needs logprobs"),
        (body(logprobs=True, top_logprobs=21), "top_logprobs", "invalid_value", ""),
        (body(stream_options={"include_usage": True}), None, "invalid_value", "needs stream"),
        (body(response_format={"type": "xml"}), "response_format.type", "invalid_value", ""),
        (
            body(response_format={"type": "json_schema"}),
            "response_format",
            "invalid_value",
            "json_schema.schema",
        ),
        (body(tool_choice="auto"), None, "invalid_value", "needs tools"),
        (body(tools=[]), "tools", "invalid_value", "at least 1"),
        (
            body(
                tools=[{"type": "function", "function": {"name": "f"}}],
                tool_choice={"type": "function", "function": {"name": "f"}},
            ),
            "tool_choice",
            "invalid_value",
            "'none', 'auto' or 'required'",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(
    data: bytes, param: str | None, code: str | None, words: str
) -> None:
    error = refusal(data)
    assert error.status == 400
    assert words in error.message
    if code is not None:
        assert (error.param, error.code) == (param, code)
