"""Chat completions: what is let in, what is refused and how it is named, what goes out."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from residency.serve.apis import CHAT
from residency.serve.asked import Asked, Wishes
from residency.serve.errors import RequestError
from tests.serve.speaking import BROKEN, USAGE, Speaking, called, likely, part, said, strictly

PATH = CHAT.path
USER = {"role": "user", "content": "hello"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [USER], **fields}).encode()


def parse(data: bytes) -> Asked:
    return CHAT.parse(data)


def refusal(data: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        CHAT.parse(data)
    return caught.value


def test_a_request_with_every_field_is_taken() -> None:
    sampling = {
        "temperature": 1,
        "top_p": 0.9,
        "stop": ["a", "b"],
        "seed": 3,
        "frequency_penalty": -2,
        "presence_penalty": 2,
        "logit_bias": {"5": -100},
    }
    asked = parse(
        body(
            **sampling,
            stream=True,
            stream_options={"include_usage": True},
            max_completion_tokens=5,
            n=2,
            logprobs=True,
            top_logprobs=3,
            response_format={"type": "json_object"},
            user="u",
            metadata={"k": "v"},
            store=False,
            service_tier="auto",
            modalities=["text"],
            verbosity="medium",
            prompt_cache_key="p",
            safety_identifier="s",
        )
    )
    form = {"response_format": {"type": "json_object"}}
    assert asked.options == {
        **sampling,
        **form,
        "max_tokens": 5,
        "logprobs": True,
        "top_logprobs": 3,
    }
    assert (asked.n, asked.stream, asked.usage) == (2, True, True)
    assert (asked.subject, asked.tags) == ("u", {"k": "v"})


def test_null_means_not_given() -> None:
    null = body(
        temperature=None, stop=None, max_tokens=None, stream=None, tools=None, functions=None
    )
    assert parse(null) == parse(body())
    assert parse(body()).options == {}


def test_our_own_fields_are_wishes() -> None:
    asked = parse(body(timeout=3, ttft_timeout=0.5, deterministic=True, context="prune"))
    wished = Wishes(timeout=3.0, ttft_timeout=0.5, deterministic=True, context="prune")
    assert asked.wishes == wished


def test_text_parts_become_one_text() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    asked = parse(body(messages=[{"role": "user", "content": parts}]))
    assert asked.messages[0].content == "one\ntwo"


def test_a_developer_message_is_a_system_message() -> None:
    asked = parse(body(messages=[{"role": "developer", "content": "x"}, USER]))
    assert asked.messages[0].role == "system"


def test_an_answer_of_the_official_client_can_be_sent_back() -> None:
    echoed = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": [CALL],
    }
    result = {"role": "tool", "content": "4", "tool_call_id": "c"}
    asked = parse(body(messages=[USER, echoed, result]))
    assert [one.extra for one in asked.messages[1:]] == [
        {"tool_calls": [CALL]},
        {"tool_call_id": "c"},
    ]


def test_a_chosen_tool_is_the_only_one_passed_on_and_required() -> None:
    chosen = {"type": "function", "function": {"name": "g"}}
    options = parse(body(tools=TOOLS, tool_choice=chosen, parallel_tool_calls=False)).options
    wanted = {"tools": TOOLS[1:], "tool_choice": "required", "parallel_tool_calls": False}
    assert options == wanted


def test_a_schema_is_passed_on() -> None:
    form = {"name": "x", "schema": {"type": "object"}, "strict": True}
    options = parse(body(response_format={"type": "json_schema", "json_schema": form})).options
    assert options == {"response_format": {"type": "json_schema", "json_schema": form}}


def test_logprobs_without_number_are_asked_for_one() -> None:
    assert parse(body(logprobs=True)).options == {"logprobs": True, "top_logprobs": 1}


@pytest.mark.parametrize(
    ("data", "param", "code", "words"),
    [
        (b"{not json", None, "invalid_json", "not JSON"),
        (b"", None, "invalid_json", "not JSON"),
        (b"\xff\xfe", None, "invalid_json", "not JSON"),
        (b"[" * 100_000, None, "invalid_json", "not JSON"),
        (b"[]", None, "invalid_value", "object"),
        (body(temprature=1), "temprature", "unknown_parameter", "did you mean temperature?"),
        (body(zzz=1), "zzz", "unknown_parameter", "known here: context, deterministic, freq"),
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
        (body(n=9), "n", "invalid_value", "8"),
        (body(timeout=0), "timeout", "invalid_value", "greater than 0"),
        (body(context="drop"), "context", "invalid_value", "'prune'"),
        (body(deterministic=True, temperature=0.5), None, "invalid_value", "greedily"),
        (body(logit_bias={"hi": 1}), "logit_bias.hi.[key]", "invalid_value", "pattern"),
        (body(logit_bias={"5": 101}), "logit_bias.5", "invalid_value", "100"),
        (body(store=True), "store", "invalid_value", "False"),
        (body(reasoning_effort="low"), "reasoning_effort", "invalid_value", "without reasoning"),
        (body(functions=[]), "functions", "invalid_value", "use tools"),
        (body(prediction={}), "prediction", "invalid_value", "not offered"),
        (body(**{"x" * 100_000: 1}), "x" * 64, "unknown_parameter", "known here"),
        (body(**{str(n): 1 for n in range(1000)}), None, "invalid_value", "1000 fields"),
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
            "needs json_schema",
        ),
        (
            body(
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "strng"}},
                }
            ),
            "response_format.json_schema.schema",
            "invalid_json_schema",
            "#/type",
        ),
        (
            body(tools=TOOLS, response_format={"type": "json_object"}),
            "response_format",
            "invalid_value",
            "the tools would be ignored",
        ),
        (body(tools=TOOLS, logprobs=True), "logprobs", "invalid_value", "not given together"),
        (body(tools=[*TOOLS, TOOLS[0]]), "tools", "invalid_value", "same name"),
        (body(tools=TOOLS * 65), "tools", "invalid_value", "over 128"),
        (
            body(tools=[{"type": "function", "function": {"description": "x"}}]),
            "tools[0].function.name",
            "missing_required_parameter",
            "",
        ),
        (
            body(
                tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": 1}}}]
            ),
            "tools[0].function.parameters",
            "invalid_json_schema",
            "not a JSON schema",
        ),
        (
            body(messages=[USER, {"role": "tool", "content": "4", "tool_call_id": "c"}]),
            "messages[1]",
            "invalid_value",
            "no call before it has the id 'c'",
        ),
        (
            body(
                messages=[
                    {
                        "role": "assistant",
                        "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{"}}],
                    }
                ]
            ),
            "messages[0].tool_calls[0].function.arguments",
            "invalid_value",
            "JSON object",
        ),
        (
            body(
                tools=[
                    {"type": "function", "function": {"name": "f", "parameters": {"default": 1}}}
                ]
            ).replace(b": 1}", b": 1e999}"),
            "tools[0].function.parameters",
            "invalid_value",
            "no numbers in JSON",
        ),
        (body(tool_choice="auto"), "tool_choice", "invalid_value", "needs tools"),
        (body(tools=TOOLS, tool_choice="any"), "tool_choice", "invalid_value", "'required'"),
        (
            body(tools=TOOLS, tool_choice={"type": "function", "function": {"nam": "f"}}),
            "tool_choice.function.name",
            "missing_required_parameter",
            "",
        ),
        (body(tools=[]), "tools", "invalid_value", "at least 1"),
        (
            body(
                tools=TOOLS,
                tool_choice={"type": "function", "function": {"name": "h"}},
            ),
            "tool_choice",
            "invalid_value",
            "there is no tool 'h'; known: f, g",
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


def chunks(speaking: Speaking, **fields: Any) -> list[Any]:
    events = speaking.post(PATH, messages=[USER], stream=True, **fields)
    assert events[-1] == ("", None)
    return [strictly(ChatCompletionChunk, data) for _, data in events[:-1]]


def whole(speaking: Speaking, **fields: Any) -> Any:
    return strictly(ChatCompletion, speaking.post(PATH, messages=[USER], **fields))


def test_a_plain_answer_is_openais() -> None:
    answer = whole(Speaking())
    assert answer.id.startswith("chatcmpl-") and answer.system_fingerprint == "0123456789ab"
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("Hello", "stop")
    assert answer.usage.model_dump(exclude_unset=True) == USAGE


def test_a_streamed_answer_is_openais() -> None:
    found = chunks(Speaking())
    assert len({(one.id, one.created, one.model) for one in found}) == 1
    assert [one.choices[0].delta.content for one in found] == [None, "Hel", "lo", None]
    assert [one.choices[0].finish_reason for one in found] == [None, None, None, "stop"]
    assert all(one.usage is None for one in found)


def test_usage_is_null_until_the_last_event() -> None:
    found = chunks(Speaking(), stream_options={"include_usage": True})
    assert [len(one.choices) for one in found] == [1, 1, 1, 1, 0]
    assert all(one.usage is None and "usage" in one.model_fields_set for one in found[:-1])
    assert found[-1].usage.completion_tokens == 2


@pytest.mark.parametrize("more", [{}, {"stream_options": {"include_usage": True}}])
def test_the_facts_are_in_the_last_event(more: dict[str, Any]) -> None:
    found = chunks(Speaking(facts={"finish": "deadline"}), **more)
    assert found[-1].residency == {"finish": "deadline"}
    assert not any("residency" in one.model_extra for one in found[:-1])


def test_the_facts_are_in_a_plain_answer() -> None:
    assert whole(Speaking(facts={"guards": ["loop"]})).residency == {"guards": ["loop"]}


def several() -> Iterator[Any]:
    one, two = said("a", "b"), said("c", "d", index=1)
    for first, second in zip(one, two, strict=True):
        yield from (first, second)


def test_several_choices_keep_their_index_and_their_tokens_are_added() -> None:
    answer = whole(Speaking(list(several())), n=2)
    assert [(c.index, c.message.content) for c in answer.choices] == [(0, "ab"), (1, "cd")]
    counts = answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens
    assert counts == (7, 4, 11)


def test_several_choices_in_a_stream_all_finish() -> None:
    found = chunks(Speaking(list(several()), facts={"finish": "x"}), n=2)
    finished = [c.index for one in found for c in one.choices if c.finish_reason]
    assert finished == [0, 1]
    assert found[-1].residency == {"finish": "x"}


def test_tool_calls_are_openais() -> None:
    pieces = [*called(0, "f", '{"x":', "1}"), *called(1, "g", "{}"), *said(finish="tool_calls")]
    calls = whole(Speaking(pieces)).choices[0].message.tool_calls
    assert [(c.id, c.function.name, c.function.arguments) for c in calls] == [
        ("call_0", "f", '{"x":1}'),
        ("call_1", "g", "{}"),
    ]
    assert chunks(Speaking(pieces))[0].choices[0].delta.tool_calls[0].function.name == "f"


@pytest.mark.parametrize("top", [0, 1, 2])
def test_logprobs_are_openais_and_as_many_as_asked_for(top: int) -> None:
    speaking = Speaking([part({"content": "a"}, logprobs=likely("a")), *said()])
    fields = {"logprobs": True, "top_logprobs": top}
    plain = whole(speaking, **fields).choices[0].logprobs.content
    streamed = chunks(speaking, **fields)[0].choices[0].logprobs.content
    assert [len(one.top_logprobs) for one in (*plain, *streamed)] == [top, top]
    assert (plain[0].token, plain[0].logprob, plain[0].bytes) == ("a", 0, [1])


def test_a_part_that_says_more_than_text_is_written_whole() -> None:
    both = part({"content": "a"}, finish="stop")
    role = part({"role": "assistant", "content": "b"})
    two = {"choices": [*part({"content": "c"})["choices"], *part({}, index=1)["choices"]]}
    found = chunks(Speaking([role, two, both]))
    assert [len(one.choices) for one in found] == [1, 2, 1]
    assert found[0].choices[0].delta.role == "assistant"
    assert found[1].choices[1].index == 1
    assert (found[2].choices[0].delta.content, found[2].choices[0].finish_reason) == ("a", "stop")


def test_an_event_is_one_line_whatever_the_model_says() -> None:
    text = "a\r\n\ndata: {}\u2028\u0085\n"
    [(_, data), *_] = Speaking([part({"content": text}), *said()]).post(
        PATH, messages=[USER], stream=True
    )
    assert data["choices"][0]["delta"]["content"] == text


def test_a_stream_that_fails_raises_in_the_official_client() -> None:
    with Speaking(broken=True).openai() as client:
        stream = client.chat.completions.create(model="m", messages=[USER], stream=True)
        with pytest.raises(openai.APIError, match=BROKEN.message) as caught:
            list(stream)
    assert caught.value.code == BROKEN.code


def test_a_refusal_raises_in_the_official_client() -> None:
    with Speaking().openai() as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="m", messages=[USER], extra_body={"temprature": 1})
    assert (caught.value.param, caught.value.code) == ("temprature", "unknown_parameter")
