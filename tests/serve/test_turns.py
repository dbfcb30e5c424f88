from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from residency.serve.turns import droppable, fewest, older, rounded, without
from residency.types import Message

Turn = tuple[Message, ...]


def said(role: str, content: str = "") -> Message:
    return Message(role=role, content=content)  # type: ignore[arg-type]


def pair(ids: list[str]) -> list[Message]:
    calls = [{"id": one, "type": "function", "function": {"name": "look"}} for one in ids]
    return [
        Message(role="assistant", content="", extra={"tool_calls": calls}),
        *(Message(role="tool", content=one, extra={"tool_call_id": one}) for one in ids),
    ]


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """System messages anywhere between turns, turns with pairs, the last perhaps still at work."""
    messages = [said("system", str(n)) for n in range(draw(st.integers(0, 2)))]
    number = draw(st.integers(1, 6))
    for turn in range(number):
        messages.append(said("user", str(turn)))
        for step in range(draw(st.integers(0, 3))):
            ids = [f"{turn}-{step}-{n}" for n in range(draw(st.integers(1, 2)))]
            messages += pair(ids)
        if turn < number - 1 or draw(st.booleans()):
            messages.append(said("assistant", f"answer {turn}"))
        if draw(st.booleans()):
            messages.append(said("system", f"after {turn}"))
    return tuple(messages)


def calls(messages: Turn) -> list[str]:
    return [call["id"] for one in messages for call in one.extra.get("tool_calls", ())]


def results(messages: Turn) -> list[str]:
    return [one.extra["tool_call_id"] for one in messages if one.role == "tool"]


@given(conversations())
def test_what_stays_is_whole(messages: Turn) -> None:
    groups = droppable(messages)
    users = [one for one in messages if one.role == "user"]
    for gone in range(len(groups) + 1):
        left = without(messages, groups[:gone])
        assert calls(left) == results(left)
        assert left == tuple(one for one in messages if one in left)
        assert all(one in left for one in messages if one.role == "system")
        assert users[0] in left
        assert users[-1] in left
        assert left[-1] is messages[-1]


@given(conversations())
def test_answers_stay_with_their_questions(messages: Turn) -> None:
    left = without(messages, droppable(messages))
    questions = [one.content for one in left if one.role == "user"]
    answers = [one.content for one in left if one.role == "assistant" and one.content]
    assert [f"answer {one}" for one in questions[:-1]] == answers[: len(questions) - 1]


@given(conversations())
def test_the_oldest_go_first(messages: Turn) -> None:
    places = [place for group in droppable(messages) for place in group]
    assert places == sorted(set(places))


def test_an_agents_one_turn_loses_its_oldest_pairs_and_keeps_the_newest() -> None:
    messages = (said("system"), said("user"), *pair(["a"]), *pair(["b", "c"]), *pair(["d"]))
    assert droppable(messages) == [(2, 3), (4, 5, 6)]


def test_an_older_turn_goes_with_all_its_pairs_but_not_with_its_system_message() -> None:
    middle = (said("user", "2"), *pair(["a"]), said("system"), said("assistant"))
    messages = (said("user", "1"), said("assistant"), *middle, said("user", "3"))
    assert older(messages) == droppable(messages) == [(2, 3, 4, 6)]


def test_nothing_may_go_of_one_turn_or_none() -> None:
    assert droppable((said("system"), said("user"))) == []
    assert droppable((said("system"),)) == []


@given(st.lists(st.integers(0, 50), min_size=1).map(lambda x: sorted(x, reverse=True)), st.data())
def test_fewest_is_the_first_that_fits(sizes: list[int], data: st.DataObject) -> None:
    limit = data.draw(st.integers(0, 50))
    low = data.draw(st.integers(0, len(sizes) - 1))

    async def tokens(number: int) -> int:
        return sizes[number]

    fitting = [n for n in range(low, len(sizes)) if sizes[n] <= limit]
    number, size = asyncio.run(fewest(len(sizes) - 1, tokens, limit, low=low))
    assert number == (fitting[0] if fitting else len(sizes) - 1)
    assert size == sizes[number]


@given(st.integers(0, 200), st.integers(0, 200))
def test_rounding_drops_no_more_than_a_quarter_more(gone: int, more: int) -> None:
    groups = gone + more
    assert gone <= rounded(gone, groups) <= min(groups, gone + groups / 4)
