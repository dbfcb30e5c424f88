"""The engine is asked as the specialist was taught."""

import json
from typing import Any

import pytest

from residency.serve.errors import RequestError
from residency.serve.question import compose
from residency.serve.schema import ChatRequest, parse
from tests.serve.releases import release


def asked(**fields: Any) -> ChatRequest:
    whole = {"model": "clinic-desk", "messages": [{"role": "user", "content": "hi"}], **fields}
    return parse(json.dumps(whole).encode())


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
    question = compose(asked(user="u", metadata={"a": "b"}, n=1), release())
    assert not {"user", "metadata", "n"} & set(question.body)


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


def test_another_model_is_not_found() -> None:
    with pytest.raises(RequestError, match="known: clinic-desk") as caught:
        compose(asked(model="gpt-4o"), release())
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
