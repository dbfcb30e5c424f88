"""Anthropic's messages: content blocks in, content blocks out."""

import json
from typing import Any

import anthropic
import pytest
from anthropic import types as official
from anthropic.types import Message

from residency.serve.apis import MESSAGES
from residency.serve.apis.messages import parse_count
from residency.serve.asked import Asked
from residency.serve.errors import RequestError, fault_of
from tests.serve.speaking import BROKEN, Speaking, called, part, said, strictly

PATH = MESSAGES.path
USER = {"role": "user", "content": "hi"}
TOOLS = [{"name": name, "input_schema": {"type": "object"}} for name in ("f", "g")]
EVENTS: dict[str, Any] = {
    "message_start": official.RawMessageStartEvent,
    "content_block_start": official.RawContentBlockStartEvent,
    "content_block_delta": official.RawContentBlockDeltaEvent,
    "content_block_stop": official.RawContentBlockStopEvent,
    "message_delta": official.RawMessageDeltaEvent,
    "message_stop": official.RawMessageStopEvent,
}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "max_tokens": 9, "messages": [USER], **fields}).encode()


def parse(**fields: Any) -> Asked:
    return MESSAGES.parse(body(**fields))


def post(speaking: Speaking, **fields: Any) -> Any:
    return speaking.post(PATH, max_tokens=9, messages=[USER], **fields)


@pytest.mark.parametrize(
    "system",
    ["Be brief.", [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]],
)
def test_a_request_is_one_of_chat(system: Any) -> None:
    asked = parse(
        system=system,
        stop_sequences=["a", "b"],
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        metadata={"user_id": "u"},
        thinking={"type": "disabled"},
        service_tier="auto",
    )
    assert [one.to_dict() for one in asked.messages] == [
        {"role": "system", "content": "Be brief."},
        USER,
    ]
    assert asked.options == {
        "max_tokens": 9,
        "stop": ["a", "b"],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
    }
    assert asked.subject == "u"


def test_blocks_become_messages() -> None:
    use = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}
    result = {"type": "tool_result", "tool_use_id": "a"}
    texts = [{"type": "text", "text": text} for text in ("one", "two")]
    found = parse(
        messages=[
            {"role": "user", "content": texts},
            {"role": "assistant", "content": [texts[0], use]},
            {"role": "user", "content": [{**result, "content": "4"}, texts[0]]},
            {"role": "user", "content": [{**result, "content": texts, "is_error": True}]},
            {"role": "user", "content": [result]},
        ]
    ).messages
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    assert [one.to_dict() for one in found] == [
        {"role": "user", "content": "one\ntwo"},
        {"role": "assistant", "content": "one", "tool_calls": [call]},
        {"role": "tool", "content": "4", "tool_call_id": "a"},
        {"role": "user", "content": "one"},
        {"role": "tool", "content": "Error: one\ntwo", "tool_call_id": "a"},
        {"role": "tool", "content": "", "tool_call_id": "a"},
    ]


@pytest.mark.parametrize(
    ("choice", "names", "wanted"),
    [
        ({"type": "auto"}, ["f", "g"], {"tool_choice": "auto"}),
        ({"type": "any"}, ["f", "g"], {"tool_choice": "required"}),
        ({"type": "none"}, ["f", "g"], {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "g", "disable_parallel_tool_use": True},
            ["g"],
            {"tool_choice": "required", "parallel_tool_calls": False},
        ),
    ],
)
def test_the_choice_of_tools_is_that_of_chat(
    choice: dict[str, Any], names: list[str], wanted: dict[str, Any]
) -> None:
    options = dict(parse(tools=TOOLS, tool_choice=choice).options)
    assert [tool["function"]["name"] for tool in options.pop("tools")] == names
    assert options == {"max_tokens": 9, **wanted}


def test_an_answer_of_a_given_form_is_strict() -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    options = parse(output_config={"format": form}).options
    assert options["response_format"]["json_schema"]["strict"] is True


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"max_tokens": None}, "max_tokens", "integer"),
        ({"temperature": 1.5}, "temperature", "less than or equal to 1"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages[0].role", "'user'"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "messages[0].content[0]",
            "type must be one of: text, tool_use, tool_result",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "txt": "x"}]}]},
            "messages[0].content[0].text",
            "missing",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "txt": 1}]}]},
            "messages[0].content[0].txt",
            "did you mean text?",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "z"}]}
                ]
            },
            "messages[0]",
            "no call before it has the id 'z'",
        ),
        (
            {
                "messages": [
                    {"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "z"}]}
                ]
            },
            "messages[0]",
            "has no tool_result",
        ),
        ({"tools": TOOLS, "tool_choice": {"type": "tool"}}, "tool_choice", "needs name"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "h"}}, "tool_choice", "'h'"),
        ({"tool_choice": {"type": "any"}}, "tool_choice", "needs tools"),
        ({"thinking": {"type": "enabled"}}, "thinking.type", "'disabled'"),
        (
            {"tools": [{**TOOLS[0], "input_schema": {"type": "x"}}]},
            "tools[0].input_schema",
            "not a JSON schema",
        ),
        ({"max_token": 5}, "max_token", "did you mean max_tokens?"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(
    fields: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(RequestError) as caught:
        parse(**fields)
    assert words in caught.value.message
    assert caught.value.param == param


def test_counting_needs_no_max_tokens() -> None:
    asked = parse_count(json.dumps({"model": "m", "messages": [USER], "tools": TOOLS}).encode())
    assert [one.to_dict() for one in asked.messages] == [USER]
    assert len(asked.options["tools"]) == 2


def test_a_plain_answer_is_anthropics() -> None:
    answer = strictly(Message, post(Speaking(facts={"finish": "x"})))
    assert answer.id.startswith("msg_")
    assert [(one.type, one.text) for one in answer.content] == [("text", "Hello")]
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    usage = answer.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (3, 4, 2)
    assert answer.residency == {"finish": "x"}


@pytest.mark.parametrize(
    ("end", "reason", "sequence"),
    [
        (part({}, finish="stop"), "end_turn", None),
        (part({}, finish="length"), "max_tokens", None),
        (part({}, finish="content_filter"), "refusal", None),
        (part({}, finish="stop", stop_reason="END"), "stop_sequence", "END"),
        (part({}, finish="stop", stop_reason="<|end|>"), "end_turn", None),
        (part({}, finish="tool_calls", stop_reason="END"), "tool_use", None),
    ],
)
def test_the_reason_of_the_end_is_anthropics(end: Any, reason: str, sequence: str | None) -> None:
    speaking = Speaking([*said("a")[:2], end])
    plain = strictly(Message, post(speaking, stop_sequences=["END"]))
    events = post(speaking, stop_sequences=["END"], stream=True)
    streamed = dict(events)["message_delta"]["delta"]
    assert (plain.stop_reason, plain.stop_sequence) == (reason, sequence)
    assert (streamed["stop_reason"], streamed["stop_sequence"]) == (reason, sequence)


CALLS = [
    *said("so")[:2],
    *called(0, "f", '{"x":', "1}"),
    *called(1, "g", "{}"),
    *said(finish="tool_calls"),
]


def test_calls_are_blocks() -> None:
    answer = strictly(Message, post(Speaking(CALLS)))
    assert answer.stop_reason == "tool_use"
    assert [one.type for one in answer.content] == ["text", "tool_use", "tool_use"]
    assert [(one.id, one.name, one.input) for one in answer.content[1:]] == [
        ("call_0", "f", {"x": 1}),
        ("call_1", "g", {}),
    ]


def test_a_call_that_was_cut_off_is_kept_as_text() -> None:
    answer = strictly(Message, post(Speaking([*called(0, "f", '{"x":'), *said(finish="length")])))
    assert (answer.content[0].input, answer.stop_reason) == (
        {"INVALID_JSON": '{"x":'},
        "max_tokens",
    )


@pytest.mark.parametrize(
    ("chunks", "kinds"),
    [
        (said("Hel", "lo"), "start delta delta stop"),
        (said(), ""),
        (CALLS, "start delta stop start delta delta stop start delta stop"),
    ],
)
def test_the_events_are_anthropics(chunks: list[Any], kinds: str) -> None:
    events = post(Speaking(chunks, facts={"finish": "x"}), stream=True)
    blocks = [f"content_block_{kind}" for kind in kinds.split()]
    names = ["message_start", *blocks, "message_delta", "message_stop"]
    assert [name for name, _ in events] == names
    assert all(strictly(EVENTS[name], data).type == name for name, data in events)
    assert events[-1][1]["residency"] == {"finish": "x"}


@pytest.mark.parametrize("chunks", [said("Hel", "lo"), CALLS])
def test_the_official_client_puts_a_stream_together(chunks: list[Any]) -> None:
    speaking = Speaking(chunks)
    with speaking.anthropic() as client:
        messages: Any = [USER]
        with client.messages.stream(model="m", max_tokens=9, messages=messages) as stream:
            streamed = stream.get_final_message()
        plain = client.messages.create(model="m", max_tokens=9, messages=messages)
    assert [one.to_dict() for one in streamed.content] == [one.to_dict() for one in plain.content]
    assert streamed.usage == plain.usage
    assert streamed.stop_reason == plain.stop_reason


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 429, 500, 503, 504])
def test_an_error_is_anthropics(status: int) -> None:
    fault = fault_of(RequestError("why", status=status, code="c"))
    error = strictly(official.ErrorResponse, MESSAGES.error(fault))
    assert error.error.message == "why"
    assert error.residency["code"] == "c"


def test_a_refusal_raises_in_the_official_client() -> None:
    with Speaking().anthropic() as client, pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model="m", max_tokens=0, messages=[{"role": "user", "content": "x"}])
    assert caught.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]


def test_a_stream_that_fails_raises_in_the_official_client() -> None:
    with Speaking(broken=True).anthropic() as client:
        messages: Any = [USER]
        stream = client.messages.create(model="m", max_tokens=9, messages=messages, stream=True)
        with pytest.raises(anthropic.APIStatusError, match=BROKEN.message):
            list(stream)
