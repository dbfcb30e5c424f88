"""What a call asked and answered, and the figures of many."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.traffic.profile import (
    LONGEST,
    Tally,
    alike,
    answered,
    application,
    asked,
    script,
    tags,
)
from residency.types import Exchange
from tests.traffic.exchanges import exchange


def said(*messages: dict[str, Any], **request: Any) -> Exchange:
    return exchange(1, request={"messages": list(messages), **request})


def test_the_last_user_message_is_what_is_asked() -> None:
    call = said(
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": [{"type": "text", "text": "and"}, {"type": "image_url"}]},
        {"role": "tool", "content": "{}"},
    )
    assert asked(call) == "and"


@pytest.mark.parametrize(
    "request_body",
    [{"prompt": "why"}, {"prompt": ["why"]}, {"input": "why"}, {"messages": [], "prompt": "why"}],
)
def test_a_prompt_is_asked_too(request_body: dict[str, Any]) -> None:
    assert asked(exchange(1, request=request_body)) == "why"


@pytest.mark.parametrize("body", [{}, {"messages": "x"}, {"messages": [1]}, {"prompt": {"a": 1}}])
def test_what_is_no_request_asks_nothing(body: dict[str, Any]) -> None:
    assert asked(exchange(1, request=body)) == ""
    assert application(exchange(1, request=body)) == ""


def test_a_long_text_is_cut() -> None:
    assert len(asked(exchange(1, "word " * 10_000))) == LONGEST


def test_an_application_has_one_prompt_whatever_its_figures() -> None:
    one, other = (
        said({"role": "system", "content": f"Today is 2026-01-{day}."}) for day in ("02", "30")
    )
    assert application(one) == application(other) != ""


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ({"choices": [{"message": {"content": "a"}}]}, "a"),
        ({"choices": [{"text": "b"}]}, "b"),
        ({"choices": []}, ""),
        ({"choices": [None]}, ""),
        (None, ""),
    ],
)
def test_what_is_answered(response: Any, text: str) -> None:
    assert answered(exchange(1, response=response)) == text


def test_a_tool_call_is_an_answer() -> None:
    function = {"name": "find", "arguments": "{}"}
    message = {"content": None, "tool_calls": [{"id": "7", "function": function}]}
    call = exchange(1, response={"choices": [{"message": message}]})
    assert json.loads(answered(call)) == [function]


def test_tags_are_the_logs_and_the_requests() -> None:
    call = exchange(
        1, request={"metadata": {"team": "a"}}, tags={"workload_id": 7, "personal": {"EMAIL": 1}}
    )
    assert dict(tags(call)) == {"team": "a", "workload_id": "7"}


@pytest.mark.parametrize(
    ("text", "name"), [("hello 你", "Latin"), ("你好吗 ok", "Han"), ("да", "Cyrillic"), ("12", "")]
)
def test_scripts(text: str, name: str) -> None:
    assert script(text) == name


def test_labels_are_the_same_or_not() -> None:
    assert alike(["Yes", " yes", "yes", "YES", "yes"]) == 1.0
    assert alike(["refund now", "refund later", "a b", "a c", "a d"]) == 0.0
    assert alike(["yes"] * 4) is None


def test_texts_share_words_in_any_script() -> None:
    tail = " and this is the same end of a rather long answer"
    assert (alike([f"{name}{tail}" for name in "abcde"]) or 0) > 0.8
    chinese = (
        "您好，感谢您的来信，我们已经收到您的退款申请，会在三个工作日之内处理完毕，请您耐心等待"
    )
    assert (alike([f"{name}{chinese}" for name in "甲乙丙丁戊"]) or 0) > 0.9


@given(st.lists(st.text(max_size=80), min_size=5, max_size=8))
def test_alike_is_a_share_whatever_the_order(answers: list[str]) -> None:
    value = alike(answers)
    assert value is not None
    assert 0 <= value <= 1
    assert value == pytest.approx(alike(answers[::-1]))


def test_a_tally() -> None:
    tally = Tally("x")
    for number in range(100):
        call = exchange(number, latency=number / 100, cost=0.5, prompt_tokens=10)
        tally.add(call, "hello", "desk" if number % 2 else "")
    tally.add(exchange(100, status=429, error="rate_limit", latency=60.0), "hello", "")
    found = tally.category("c")
    assert (found.calls, found.errors, found.cost, found.prompt_tokens) == (101, 1, 50.0, 1000)
    assert found.p50 == pytest.approx(0.5)
    assert found.p95 == pytest.approx(0.941)  # neither the failure nor an unknown latency of 0
    assert (found.alike, found.examples, found.tags) == (1.0, ("hello",), {"desk": 50})


def test_nothing_answered_has_no_latency() -> None:
    tally = Tally("x")
    tally.add(exchange(1, status=500, error="x"), "hello", "")
    found = tally.category("c")
    assert (found.p50, found.p95, found.alike) == (None, None, None)
