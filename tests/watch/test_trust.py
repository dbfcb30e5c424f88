"""Which answers can be learnt from."""

import math
from typing import Any

import pytest

from residency.config import DataSettings
from residency.traffic.feedback import Feedback
from residency.types import Exchange
from residency.watch.corpus import corpus
from residency.watch.trust import Judged, confidence, judge, opinions
from tests.tooled import call, tool
from tests.traffic.exchanges import exchange
from tests.watch.exchanges import said, served

REMOTE = {"api"}


def judged(one: Exchange, *feedback: Feedback) -> Judged:
    found = judge(one, opinions(feedback), REMOTE)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("feedback", "expected"),
    [
        ([], ("", "")),
        ([said(1, "up")], ("yes", "rated up")),
        ([said(1, "down")], ("", "")),
        ([said(1, "down", "no")], ("no", "corrected")),
        ([said(1, "down", "no"), said(1, "up", source="review")], ("yes", "reviewed")),
        ([said(1, "up"), said(1, "down", "no", source="review")], ("no", "reviewed")),
        ([said(1, "up"), said(1, "down", source="review")], ("", "")),
        ([said(2, "up")], ("", "")),
    ],
)
def test_people_decide(feedback: list[Feedback], expected: tuple[str, str]) -> None:
    one = judged(served(1, "may i come"), *feedback)
    assert (one.trusted, one.why) == expected
    assert one.down == (bool(feedback) and feedback[-1].rating == "down")


@pytest.mark.parametrize(
    ("routes", "why"),
    [(["desk"], ""), (["desk", "api"], "escalated"), (["api"], "given"), (["api", "desk"], "")],
)
def test_an_api_teaches_and_our_own_models_do_not(routes: list[str], why: str) -> None:
    assert judged(served(1, "may i come", routes=routes)).why == why


def test_an_imported_log_was_answered_by_an_api() -> None:
    assert judged(exchange(1)).why == "given"


@pytest.mark.parametrize(
    "changed",
    [
        {"finish": "length"},
        {"tags": {"finish": "deadline"}},
        {"status": 504, "error": "engine_timeout"},
        {"answer": "  "},
    ],
)
def test_half_an_answer_is_not_learnt_but_its_correction_is(changed: dict[str, Any]) -> None:
    one = served(1, "may i come", routes=["api"], **changed)
    found = judge(one, {}, REMOTE)
    assert found is None or not found.why
    assert judged(one, said(1, "down", "no")).trusted == "no"


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"messages": []},
        {"messages": "hello"},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
        {"messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function"}]},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "tool", "content": "hi"}]},
        {"messages": [{"role": "user", "content": "hi"}], "tools": [tool()], "tool_choice": "none"},
        {"messages": [{"role": "system", "content": "hi"}]},
        {"messages": [None]},
    ],
)
def test_what_is_no_text_is_left_out(request_: dict[str, Any]) -> None:
    one = exchange(1, request=request_)
    assert judge(one, opinions([said(1, "down", "no")]), REMOTE) is None


def test_what_was_asked_with_tools_keeps_them_and_a_call_is_an_answer() -> None:
    asked = [
        {"role": "user", "content": "Free on Tuesday?"},
        {"role": "assistant", "content": None, "tool_calls": [call(day="Tuesday")]},
        {"role": "tool", "tool_call_id": "call12345", "content": "[9]"},
    ]
    answer = {"role": "assistant", "content": "", "tool_calls": [call(day="Wednesday")]}
    choices = [{"message": answer, "finish_reason": "tool_calls"}]
    one = exchange(1, request={"messages": asked, "tools": [tool()]}, response={"choices": choices})
    found = judged(one)
    assert (found.tools, found.why) == ((tool(),), "given")
    assert found.trusted == '{"tool": "free_slots", "free_slots.day": "Wednesday"}'
    assert [m.role for m in found.prompt] == ["user", "assistant", "tool"]
    (row,) = corpus([found], {}, [], DataSettings(file="d.jsonl"), unrated=True).rows
    assert row.row.tools == (tool(),)
    assert row.row.messages[-1].extra["tool_calls"] == (call(day="Wednesday"),)
    corrected = judged(one, said(1, "down", "We are closed."))
    (row,) = corpus([corrected], {}, [], DataSettings(file="d.jsonl")).rows
    assert row.row.messages[-1].to_dict() == {"role": "assistant", "content": "We are closed."}


def test_texts_in_parts_and_plain_prompts_are_read() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    asked = [{"role": "developer", "content": "Desk."}, {"role": "user", "content": parts}]
    found = judged(exchange(1, request={"messages": asked}))
    assert [(m.role, m.content) for m in found.prompt] == [
        ("system", "Desk."),
        ("user", "one\ntwo"),
    ]
    assert judged(exchange(1, request={"prompt": "hello"})).prompt[0].content == "hello"


def test_confidence_is_noted_or_worked_out() -> None:
    assert confidence(served(1, "x", tags={"confidence": 0.25})) == 0.25
    logprobs = {"content": [{"token": "a", "logprob": -1.0}, {"token": "b", "logprob": -3.0}]}
    choices = [{"message": {"content": "ab"}, "logprobs": logprobs}]
    assert confidence(exchange(1, response={"choices": choices})) == pytest.approx(math.exp(-2))
    assert confidence(served(1, "x")) is None
