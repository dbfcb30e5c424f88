"""Responses: items in, items out, and no state between."""

import json
from typing import Any

import openai
import pytest
from openai.types import responses as official
from openai.types.responses import Response

from residency.serve.apis import RESPONSES
from residency.serve.asked import Asked
from residency.serve.errors import RequestError
from tests.serve.speaking import BROKEN, Speaking, called, likely, part, said, strictly

PATH = RESPONSES.path
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
EVENTS: dict[str, Any] = {
    "response.created": official.ResponseCreatedEvent,
    "response.in_progress": official.ResponseInProgressEvent,
    "response.output_item.added": official.ResponseOutputItemAddedEvent,
    "response.content_part.added": official.ResponseContentPartAddedEvent,
    "response.output_text.delta": official.ResponseTextDeltaEvent,
    "response.output_text.done": official.ResponseTextDoneEvent,
    "response.content_part.done": official.ResponseContentPartDoneEvent,
    "response.function_call_arguments.delta": official.ResponseFunctionCallArgumentsDeltaEvent,
    "response.function_call_arguments.done": official.ResponseFunctionCallArgumentsDoneEvent,
    "response.output_item.done": official.ResponseOutputItemDoneEvent,
    "response.completed": official.ResponseCompletedEvent,
    "response.incomplete": official.ResponseIncompleteEvent,
    "response.failed": official.ResponseFailedEvent,
}


def parse(**fields: Any) -> Asked:
    return RESPONSES.parse(json.dumps({"model": "m", "input": "hi", **fields}).encode())


def messages(**fields: Any) -> list[dict[str, Any]]:
    return [one.to_dict() for one in parse(**fields).messages]


def test_a_text_is_a_users_message_after_the_instructions() -> None:
    assert messages(instructions="Be brief.") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
    ]


def test_items_become_messages_and_calls_join_the_message_before_them() -> None:
    call = {"type": "function_call", "name": "f", "arguments": "{}"}
    found = messages(
        input=[
            {"role": "developer", "content": [{"type": "input_text", "text": "x"}]},
            {"type": "message", "role": "user", "content": "hi"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "so"}]},
            {**call, "call_id": "a"},
            {**call, "call_id": "b"},
            {"type": "function_call_output", "call_id": "a", "output": "4"},
        ]
    )
    function = {"name": "f", "arguments": "{}"}
    calls = [{"id": name, "type": "function", "function": function} for name in "ab"]
    assert found == [
        {"role": "system", "content": "x"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "so", "tool_calls": calls},
        {"role": "tool", "content": "4", "tool_call_id": "a"},
    ]


def test_options_have_the_names_of_chat() -> None:
    schema = {"type": "object"}
    form = {"type": "json_schema", "name": "n", "schema": schema}
    asked = parse(
        max_output_tokens=5,
        temperature=0.5,
        text={"format": form},
        include=["message.output_text.logprobs"],
        top_logprobs=2,
        store=False,
        user="u",
        metadata={"k": "v"},
    )
    assert asked.options == {
        "max_tokens": 5,
        "temperature": 0.5,
        "logprobs": True,
        "top_logprobs": 2,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": schema, "strict": True},
        },
    }
    assert (asked.subject, asked.tags) == ("u", {"k": "v"})


def test_a_chosen_tool_is_required() -> None:
    options = parse(tools=[TOOL], tool_choice={"type": "function", "name": "f"}).options
    function = {name: value for name, value in TOOL.items() if name != "type"}
    assert options == {
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "required",
    }


@pytest.mark.parametrize(
    ("fields", "policy"),
    [
        ({"truncation": "auto"}, "prune"),
        ({"truncation": "auto", "context": "summarize"}, "summarize"),
        ({"truncation": "disabled"}, None),
    ],
)
def test_truncation_is_a_context_policy(fields: dict[str, Any], policy: str | None) -> None:
    assert parse(**fields).wishes.context == policy


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"store": True}, "store", "no answers are kept here"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "whole conversation"),
        ({"conversation": "c"}, "conversation", "whole conversation"),
        ({"background": True}, "background", "False"),
        ({"reasoning": {"effort": "low"}}, "reasoning", "without reasoning"),
        ({"input": []}, "input", "at least 1"),
        ({"input": [{"type": "reasoning"}]}, "input[0]", "function_call_output"),
        ({"input": [{"role": "user", "contents": "x"}]}, "input[0].content", "missing"),
        (
            {"input": [{"role": "user", "content": "x", "contents": "x"}]},
            "input[0].contents",
            "did you mean content?",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].type",
            "'input_text'",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "z", "output": "4"}]},
            "messages[0]",
            "no call before it",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools[0].name", "missing"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice", "'g'"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format", "needs name and schema"),
        ({"top_logprobs": 2}, None, "in include"),
        ({"max_tokens": 5}, "max_tokens", "did you mean max_output_tokens?"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(
    fields: dict[str, Any], param: str | None, words: str
) -> None:
    with pytest.raises(RequestError) as caught:
        parse(**fields)
    assert words in caught.value.message
    assert caught.value.param == param


def test_a_plain_answer_is_openais() -> None:
    fields = {"instructions": "x", "tools": [TOOL], "metadata": {"k": "v"}, "temperature": 0.5}
    data = Speaking(facts={"finish": "x"}).post(PATH, input="hi", **fields)
    answer = strictly(Response, data)
    assert answer.id.startswith("resp_")
    assert (answer.output_text, answer.status) == ("Hello", "completed")
    assert (answer.instructions, answer.metadata, answer.tools[0].name) == ("x", {"k": "v"}, "f")
    assert (answer.usage.input_tokens, answer.usage.input_tokens_details.cached_tokens) == (7, 4)
    assert (answer.usage.output_tokens, answer.usage.total_tokens) == (2, 9)
    assert answer.residency == {"finish": "x"}


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_that_was_cut_off_is_incomplete(finish: str, reason: str) -> None:
    speaking = Speaking(said("Hel", finish=finish))
    answer = strictly(Response, speaking.post(PATH, input="hi"))
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", reason)
    assert speaking.post(PATH, input="hi", stream=True)[-1][0] == "response.incomplete"


def test_calls_are_items_of_their_own() -> None:
    pieces = [*called(0, "f", '{"x":', "1}"), *called(1, "g", "{}"), *said(finish="tool_calls")]
    answer = strictly(Response, Speaking(pieces).post(PATH, input="hi"))
    assert [(one.type, one.call_id, one.name, one.arguments) for one in answer.output] == [
        ("function_call", "call_0", "f", '{"x":1}'),
        ("function_call", "call_1", "g", "{}"),
    ]
    assert answer.status == "completed"


def test_logprobs_are_openais() -> None:
    speaking = Speaking([part({"content": "a"}, logprobs=likely("a")), *said()])
    fields = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    answer = strictly(Response, speaking.post(PATH, input="hi", **fields))
    assert len(answer.output[0].content[0].logprobs[0].top_logprobs) == 2


TALK = said("Hel", "lo")
CALLS = [*said("so")[:2], *called(0, "f", '{"x":', "1}"), *said(finish="tool_calls")]


@pytest.mark.parametrize(
    ("chunks", "kinds"),
    [
        (
            TALK,
            "output_item.added content_part.added output_text.delta output_text.delta "
            "output_text.done content_part.done output_item.done",
        ),
        (
            said(),
            "output_item.added content_part.added output_text.done content_part.done "
            "output_item.done",
        ),
        (
            CALLS,
            "output_item.added content_part.added output_text.delta output_item.added "
            "function_call_arguments.delta function_call_arguments.delta output_text.done "
            "content_part.done output_item.done function_call_arguments.done output_item.done",
        ),
    ],
)
def test_the_events_are_openais_and_build_the_answer(chunks: list[Any], kinds: str) -> None:
    speaking = Speaking(chunks, facts={"finish": "x"})
    events = speaking.post(PATH, input="hi", stream=True)
    names = [f"response.{kind}" for kind in ("created", "in_progress", *kinds.split(), "completed")]
    assert [name for name, _ in events] == names
    found = [strictly(EVENTS[name], data) for name, data in events]
    assert [one.sequence_number for one in found] == list(range(len(found)))
    last, plain = events[-1][1]["response"], speaking.post(PATH, input="hi")
    assert [_anonymous(item) for item in last["output"]] == [
        _anonymous(item) for item in plain["output"]
    ]
    assert last["residency"] == {"finish": "x"}
    assert last["usage"] == plain["usage"]


def _anonymous(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != "id"}


def test_the_official_client_puts_a_stream_together() -> None:
    with (
        Speaking(CALLS).openai() as client,
        client.responses.stream(model="m", input="hi") as stream,
    ):
        kinds = [event.type for event in stream]
        answer = stream.get_final_response()
    assert "response.output_text.delta" in kinds
    assert answer.output_text == "so"
    assert [one.type for one in answer.output] == ["message", "function_call"]


def test_what_was_answered_can_be_sent_back() -> None:
    speaking = Speaking(CALLS)
    with speaking.openai() as client:
        before: list[Any] = [{"role": "user", "content": "hi"}]
        before += client.responses.create(model="m", input=before).output
        before.append({"type": "function_call_output", "call_id": "call_0", "output": "4"})
        client.responses.create(model="m", input=before)
    assert speaking.asked is not None
    assert [one.role for one in speaking.asked.messages] == ["user", "assistant", "tool"]


def test_a_stream_that_fails_ends_with_what_there_was() -> None:
    events = Speaking(said("Hel")[:2], broken=True).post(PATH, input="hi", stream=True)
    name, data = events[-1]
    failed = strictly(EVENTS[name], data).response
    assert (name, failed.status, failed.error.code) == ("response.failed", "failed", "server_error")
    assert (failed.error.message, failed.output_text) == (BROKEN.message, "Hel")
    assert failed.residency == {"party": "engine", "code": "engine_unavailable"}


def test_a_refusal_raises_in_the_official_client() -> None:
    with Speaking().openai() as client, pytest.raises(openai.BadRequestError, match="kept here"):
        client.responses.create(model="m", input="hi", previous_response_id="resp_1")
