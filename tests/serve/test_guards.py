import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.config import ServedModel
from residency.serve.answer import Answer
from residency.serve.asked import Asked
from residency.serve.guards import RETRIES, Rules, guard, retry_for, rules_for, spoiled
from residency.serve.notes import Notes
from tests.serve.reading import collect

USAGE = {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}
LOOP = "I pat the cat. " * 60


def part(text: str = "", *, finish: str | None = None, index: int = 0, **more: Any) -> Any:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": finish, **more}
    return {"choices": [choice]}


class Engine:
    """Gives `chunks`, and knows how many were taken and whether it was closed."""

    def __init__(self, *chunks: Any) -> None:
        self.given, self.taken, self.closed = chunks, 0, False

    async def chunks(self) -> AsyncGenerator[dict[str, Any]]:
        try:
            for chunk in self.given:
                self.taken += 1
                yield chunk
        finally:
            self.closed = True


def says(text: str, *, size: int = 4, finish: str = "stop") -> Engine:
    pieces = [part(text[n : n + size]) for n in range(0, len(text), size)]
    return Engine(*pieces, part(finish=finish), {"choices": [], "usage": USAGE})


def ask(engine: Engine, notes: Notes | None = None, **rules: Any) -> Answer:
    return asyncio.run(collect(guard(engine.chunks(), Rules(**rules), notes or Notes())))


def test_what_is_well_passes_untouched() -> None:
    call = {"index": 0, "delta": {"tool_calls": [{"index": 0}]}, "finish_reason": None}
    likely = {"content": [{"token": "a", "logprob": -1.0}]}
    parts = [part("a", logprobs=likely), {"choices": [call]}, part("b"), part(finish="stop")]

    async def all_of_them(rules: Rules) -> list[Any]:
        chunks = guard(Engine(*parts).chunks(), rules, notes)
        return [one async for chunk in chunks for one in chunk["choices"]]

    for rules in (Rules(), Rules(banned=("abba",)), Rules(streamed=False)):
        notes = Notes()
        assert asyncio.run(all_of_them(rules)) == [one["choices"][0] for one in parts]
        assert notes == Notes()


def test_a_streamed_loop_ends_and_the_engine_is_left() -> None:
    engine, notes = says("Well. " + LOOP), Notes()
    answer = ask(engine, notes)
    assert answer.first.finish_reason == "stop"
    assert len(answer.first.text) < 400
    assert engine.closed
    assert engine.taken < len(engine.given) / 2
    assert notes.guards == ["repetition:phrase"]
    assert notes.finish == "repetition"
    assert answer.usage["completion_tokens"] == engine.taken
    assert notes.usage == "estimated"


def test_a_loop_is_cut_off_whole_where_nothing_was_sent() -> None:
    assert ask(says("Well. " + LOOP), streamed=False).first.text == "Well. I pat the cat. "


def test_a_loop_in_one_piece_is_cut_in_a_stream_too() -> None:
    assert ask(says("Well. " + LOOP, size=5000)).first.text == "Well. I pat the cat. "


def test_the_other_choice_goes_on_and_its_usage_is_awaited() -> None:
    loop = [part("na " * 4, index=0) for _ in range(40)]
    end = [part("fine", index=1), part(finish="length", index=1)]
    engine = Engine(part("so", index=1), *loop, *end, part("never", index=1))
    answer = ask(engine, choices=2)
    assert [answer.choices[n].finish_reason for n in (0, 1)] == ["stop", "length"]
    assert answer.choices[1].text == "sofine"
    assert engine.taken == 43
    assert answer.usage["completion_tokens"] == 42


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("streamed", [True, False])
def test_no_part_of_a_banned_string_goes_out(size: int, streamed: bool) -> None:
    notes = Notes()
    engine = says("The code is SECRET-7, keep it.", size=size)
    answer = ask(engine, notes, banned=("secret-7", "code name"), streamed=streamed)
    assert answer.first.text == "The code is "
    assert answer.first.finish_reason == "content_filter"
    assert notes.guards == ["banned"]
    assert engine.closed


def test_what_only_begins_like_a_banned_string_goes_out() -> None:
    answer = ask(says("secret, sec", size=3), banned=("secret-7",))
    assert answer.first.text == "secret, sec"
    assert answer.first.finish_reason == "stop"
    assert answer.usage == USAGE


def test_log_probabilities_do_not_name_what_is_cut() -> None:
    likely = {"content": [{"token": "a secret", "logprob": -1.0}]}
    answer = ask(Engine(part("a secret", logprobs=likely)), banned=("secret",))
    assert answer.first.text == "a "
    assert answer.first.logprobs == []


def test_case_is_folded_without_moving_places() -> None:
    for text, banned, kept in [("İİ STRASSE", "strasse", "İİ "), ("ΟΔΟΣ", "δοσ", "Ο")]:
        assert ask(says(text, size=1), banned=(banned,)).first.text == kept


@settings(max_examples=200, deadline=None)
@given(
    st.text("abA", max_size=40),
    st.lists(st.text("abB", min_size=1, max_size=5), min_size=1, max_size=3),
    st.integers(1, 5),
)
def test_the_text_ends_before_the_first_banned_string(
    text: str, banned: list[str], size: int
) -> None:
    places = [text.lower().find(one.lower()) for one in banned]
    first = min((place for place in places if place >= 0), default=None)
    answer = ask(says(text, size=size), banned=tuple(banned))
    kept = answer.first.text
    assert text.startswith(kept)
    assert not any(one.lower() in kept.lower() for one in banned)
    assert (kept == text) == (first is None)
    assert answer.first.finish_reason == ("stop" if first is None else "content_filter")


PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


@pytest.mark.parametrize(
    ("text", "schema", "event"),
    [
        ('{"age": 7}', PERSON, []),
        ('{"age": "7"}', PERSON, ["schema_mismatch"]),
        ('{"age": 7', PERSON, ["invalid_json"]),
        ('{"age": NaN}', PERSON, ["invalid_json"]),
        ("".join(f"[{n * n}," for n in range(5000)), {}, ["invalid_json"]),
        ("not JSON", None, []),
        (" \n", None, ["empty"]),
        ("", PERSON, ["empty"]),
    ],
)
def test_the_whole_is_judged_at_its_end(text: str, schema: Any, event: list[str]) -> None:
    notes = Notes()
    ask(says(text, size=100_000), notes, schema=schema)
    assert notes.guards == event


def test_an_answer_that_never_came_is_empty() -> None:
    notes = Notes()
    ask(Engine({"choices": [], "usage": USAGE}), notes)
    assert notes.guards == ["empty"]


def test_a_call_is_no_empty_answer() -> None:
    notes = Notes()
    call = {"index": 0, "delta": {"tool_calls": [{"index": 0}]}, "finish_reason": "tool_calls"}
    ask(Engine({"choices": [call]}), notes, schema=PERSON)
    assert notes.guards == []


def test_leaving_closes_the_engine() -> None:
    engine = says("one two three")

    async def leave() -> None:
        chunks = guard(engine.chunks(), Rules(), Notes())
        await anext(chunks)
        await chunks.aclose()

    asyncio.run(leave())
    assert engine.closed


def test_rules_come_from_request_and_model() -> None:
    model = ServedModel(banned=["x"])
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": PERSON}}
    for options, schema in [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, {"type": "object"}),
        ({"response_format": form}, PERSON),
    ]:
        asked = Asked(api="chat", model="m", options=options, n=2, stream=True)
        expected = Rules(banned=("x",), schema=schema, choices=2, streamed=True)
        assert rules_for(asked, model) == expected


def test_a_loop_is_asked_again_with_dry_then_warmer_then_elsewhere() -> None:
    notes = Notes(guards=["repetition:token"])
    assert spoiled(notes)
    assert retry_for(notes) == RETRIES["dry"]
    assert not spoiled(notes)
    notes.guards.append("invalid_json")
    assert retry_for(notes) == RETRIES["temperature"]
    notes.guards.append("repetition:phrase")
    assert retry_for(notes) is None
    assert notes.guards[1::2] == ["retry:dry", "retry:temperature", "escalate"]


def test_each_route_has_its_own_retries() -> None:
    notes = Notes(guards=["repetition:token", "retry:dry", "escalate", "repetition:token"])
    assert retry_for(notes) == RETRIES["dry"]


def test_dry_is_for_loops_and_where_it_is_allowed() -> None:
    assert retry_for(Notes(guards=["empty"])) == RETRIES["temperature"]
    assert retry_for(Notes(guards=["repetition:token"]), ["temperature"]) == RETRIES["temperature"]
    assert retry_for(Notes(guards=["empty"]), ["dry"]) is None


def test_what_no_retry_helps_is_not_spoiled() -> None:
    assert not spoiled(Notes())
    assert not spoiled(Notes(guards=["banned"]))
    assert not spoiled(Notes(guards=["invalid_json"], finish="deadline"))
