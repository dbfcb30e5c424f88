"""The engine is asked as the specialist was taught."""

import json
from typing import Any

import pytest

from residency.serve.apis import CHAT, COMPLETIONS
from residency.serve.asked import Asked
from residency.serve.errors import RequestError
from residency.serve.question import check_able, check_model, compose
from tests.serve.releases import release


def asked(**fields: Any) -> Asked:
    whole = {"model": "clinic-desk", "messages": [{"role": "user", "content": "hi"}], **fields}
    return CHAT.parse(json.dumps(whole).encode())


def test_what_is_not_given_is_the_gates() -> None:
    question = compose(asked(), release())
    assert question.system_added
    assert question.body == {
        "model": "clinic-desk",
        "messages": [
            {"role": "system", "content": "You sort messages."},
            {"role": "user", "content": "hi"},
        ],
        "temperature": 0.0,
        "seed": 0,
        "max_tokens": 48,
    }


def test_what_is_given_goes_before() -> None:
    question = compose(
        asked(temperature=0.5, seed=9, max_completion_tokens=3, stop="x", top_p=0.5), release()
    )
    expected = {"temperature": 0.5, "seed": 9, "max_tokens": 3, "stop": ["x"], "top_p": 0.5}
    assert expected.items() <= question.body.items()


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message_of_the_clients_own_stays(role: str) -> None:
    messages = [{"role": role, "content": "mine"}, {"role": "user", "content": "hi"}]
    question = compose(asked(messages=messages), release())
    assert not question.system_added
    assert question.body["messages"][0] == {"role": "system", "content": "mine"}


def test_a_release_without_system_message_adds_none() -> None:
    question = compose(asked(), release(system=""))
    assert not question.system_added
    assert [m["role"] for m in question.body["messages"]] == ["user"]


def test_the_clients_own_notes_do_not_reach_the_engine() -> None:
    question = compose(asked(user="u", metadata={"a": "b"}, n=2, timeout=3), release())
    assert not {"user", "metadata", "n", "timeout"} & set(question.body)


def test_a_prompt_goes_on_as_it_stands() -> None:
    body = json.dumps({"model": "clinic-desk", "prompt": "Once", "logprobs": 2}).encode()
    question = compose(COMPLETIONS.parse(body), release())
    assert not question.system_added
    assert question.body == {
        "model": "clinic-desk",
        "prompt": "Once",
        "logprobs": 2,
        "temperature": 0.0,
        "seed": 0,
        "max_tokens": 48,
    }


def test_tools_and_their_results_are_passed_on() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages: list[dict[str, Any]] = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "4", "tool_call_id": "c"},
    ]
    tools = [{"type": "function", "function": {"name": "f"}}]
    body = compose(asked(messages=messages, tools=tools), release(system="")).body
    assert body["messages"] == [{**messages[0], "content": ""}, messages[1]]
    assert body["tools"] == tools


def test_tools_need_a_template_that_has_a_place_for_them() -> None:
    given = asked(tools=[{"type": "function", "function": {"name": "f"}}])
    with pytest.raises(RequestError, match="clinic-desk cannot call tools"):
        check_able(given, {"supports_tools": False})
    check_able(given, {"supports_tools": True})
    check_able(given, {})
    check_able(asked(), {"supports_tools": False})


def test_another_model_is_not_found() -> None:
    with pytest.raises(RequestError, match="known: clinic-desk") as caught:
        check_model("gpt-4o", release())
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
