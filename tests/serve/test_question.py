"""The engine is asked as the specialist was taught."""

import json
from typing import Any

import pytest

from residency.serve.apis import CHAT, COMPLETIONS
from residency.serve.asked import Asked
from residency.serve.errors import RequestError
from residency.serve.question import body_of, check_able, opened
from residency.types import Release
from tests.serve.releases import release


def asked(**fields: Any) -> Asked:
    whole = {"model": "clinic-desk", "messages": [{"role": "user", "content": "hi"}], **fields}
    return CHAT.parse(json.dumps(whole).encode())


def compose(given: Asked, wanted: Release) -> dict[str, Any]:
    return body_of(opened(given, wanted), wanted)


def test_what_is_not_given_is_the_gates() -> None:
    assert compose(asked(), release()) == {
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
    body = compose(
        asked(temperature=0.5, seed=9, max_completion_tokens=3, stop="x", top_p=0.5), release()
    )
    expected = {"temperature": 0.5, "seed": 9, "max_tokens": 3, "stop": ["x"], "top_p": 0.5}
    assert expected.items() <= body.items()


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message_of_the_clients_own_stays(role: str) -> None:
    messages = [{"role": role, "content": "mine"}, {"role": "user", "content": "hi"}]
    given = asked(messages=messages)
    assert opened(given, release()) is given
    assert compose(given, release())["messages"][0] == {"role": "system", "content": "mine"}


def test_a_release_without_system_message_adds_none() -> None:
    body = compose(asked(), release(system=""))
    assert [m["role"] for m in body["messages"]] == ["user"]


def test_the_clients_own_notes_do_not_reach_the_engine() -> None:
    body = compose(asked(user="u", metadata={"a": "b"}, n=2, timeout=3), release())
    assert not {"user", "metadata", "n", "timeout"} & set(body)


def test_an_apis_own_defaults_stay_its_own() -> None:
    assert set(body_of(asked(), None)) == {"model", "messages"}


def test_a_prompt_goes_on_as_it_stands() -> None:
    body = json.dumps({"model": "clinic-desk", "prompt": "Once", "logprobs": 2}).encode()
    assert compose(COMPLETIONS.parse(body), release()) == {
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
    body = compose(asked(messages=messages, tools=tools), release(system=""))
    assert body["messages"] == [{**messages[0], "content": ""}, messages[1]]
    assert body["tools"] == tools


def test_tools_need_a_template_that_has_a_place_for_them() -> None:
    given = asked(tools=[{"type": "function", "function": {"name": "f"}}])
    with pytest.raises(RequestError, match="clinic-desk cannot call tools"):
        check_able(given, {"supports_tools": False})
    check_able(given, {"supports_tools": True})
    check_able(given, {})
    check_able(asked(), {"supports_tools": False})
