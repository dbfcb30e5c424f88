from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from residency.errors import EngineError
from residency.serve import summary
from residency.serve.summary import (
    CHINESE,
    ENGLISH,
    SPANISH,
    Shortened,
    Summaries,
    Words,
    credible,
    words_for,
)
from residency.types import Message
from tests.serve import reading
from tests.serve.reading import LATE, asking, said, talk

CONTEXT = 400


def shorten(
    summaries: Summaries, messages: Sequence[Message], limit: int = 300
) -> Shortened | None:
    return asyncio.run(summaries.shorten(asking(messages), limit))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Where is my parcel? It should have come on Monday.", ENGLISH),
        ("我的包裹在哪里?订单号是 A-4411, please.", CHINESE),
        ("我的订单 order 什么时候到?", CHINESE),
        ("荷物はどこですか?月曜日に届くはずでした。", ENGLISH),
        ("¿Dónde está mi paquete? El pedido es del lunes y no ha llegado.", SPANISH),
        ("Onde está a minha encomenda? O pedido é de segunda e não chegou.", ENGLISH),
        ("Dov'è il mio pacco? L'ordine era di lunedì e non è arrivato.", ENGLISH),
        ("Où est mon colis ? La commande date de lundi et il n'est pas là.", ENGLISH),
        ("On és el meu paquet? La comanda és de dilluns i no ha arribat.", ENGLISH),
        ("", ENGLISH),
    ],
)
def test_the_instruction_is_in_the_users_language(text: str, words: Words) -> None:
    messages = [Message(role="system", content="You are helpful."), said("assistant", 50)]
    assert words_for([*messages, Message(role="user", content=text)]) is words


def test_older_turns_become_one_pair_after_the_first_turn() -> None:
    messages = talk(16)
    short = shorten(Summaries(reading.Words(), CONTEXT), messages)
    assert short is not None
    told = short.asked.messages
    assert told[:3] == messages[:3]
    assert told[3].content == f"{ENGLISH.open}\nin short"
    assert [one.role for one in told] == [one.role for one in messages[: len(told)]]
    assert told[5:] == messages[-len(told[5:]) :]
    assert short.messages == len(messages) - len(told) + 2
    assert short.tokens <= 150  # half of the room
    assert not short.cached


def test_a_growing_conversation_keeps_its_summary_until_it_is_full_again() -> None:
    reader = reading.Words("first", "second", "third")
    summaries = Summaries(reader, CONTEXT)
    prompts = []
    for turns in range(14, 40):
        short = shorten(summaries, talk(turns))
        assert short is not None
        assert short.tokens <= 300
        assert short.asked.messages[-5:] == talk(turns)[-5:]
        prompts.append(short.asked.messages)
    kept = sum(new[: len(old)] == old for old, new in itertools.pairwise(prompts))
    assert len(reader.written) <= 4
    assert kept == len(prompts) - len(reader.written)


def test_a_later_summary_is_told_on_from_the_former() -> None:
    reader = reading.Words("first", "second")
    summaries = Summaries(reader, CONTEXT)
    former = shorten(summaries, talk(14))
    later = shorten(summaries, talk(30))
    assert former is not None
    assert later is not None
    assert any("first" in one.content for one in reader.written[1])
    assert talk(14)[3] not in reader.written[1]
    assert "second" in later.asked.messages[3].content


def test_a_shorter_branch_of_a_conversation_has_a_summary_of_its_own() -> None:
    reader = reading.Words()
    summaries = Summaries(reader, CONTEXT)
    shorten(summaries, talk(16))
    other = (*talk(16)[:2], said("assistant", 10, "other"), *talk(16)[3:])
    short = shorten(summaries, other)
    assert short is not None
    assert not short.cached
    assert len(reader.written) == 2


def test_two_at_once_wait_for_one_writing() -> None:
    reader = reading.Words()
    summaries = Summaries(reader, CONTEXT)

    async def both() -> list[Shortened | None]:
        asked = asking(talk(16))
        return await asyncio.gather(*(summaries.shorten(asked, 300) for _ in range(2)))

    one, two = asyncio.run(both())
    assert one == two
    assert len(reader.written) == 1


def test_the_other_still_gets_it_when_the_first_leaves() -> None:
    reader = reading.Words()
    summaries = Summaries(reader, CONTEXT)

    async def first_leaves() -> Shortened | None:
        asked = asking(talk(16))
        first, second = (asyncio.create_task(summaries.shorten(asked, 300)) for _ in range(2))
        while not reader.written:
            await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(first_leaves()) is not None
    assert len(reader.written) == 1


def test_what_is_over_the_context_is_read_in_steps() -> None:
    reader = reading.Words()
    short = shorten(Summaries(reader, CONTEXT), talk(60))
    assert short is not None
    assert len(reader.written) > 2
    sizes = [asyncio.run(reader.count(asking(one))) for one in reader.written]
    assert max(sizes) <= CONTEXT - CONTEXT // summary.SHARE


def test_long_last_turns_stay_as_they_are_where_they_fit() -> None:
    messages = (*talk(8)[:-1], *talk(3, words=38)[1:])
    short = shorten(Summaries(reading.Words(), CONTEXT), messages)
    assert short is not None
    assert short.tokens > 150
    assert short.asked.messages[5:] == messages[-5:]


def test_longer_ones_are_summarised_too() -> None:
    messages = (*talk(8)[:-1], *talk(3, words=60)[1:])
    short = shorten(Summaries(reading.Words(), CONTEXT), messages)
    assert short is not None
    assert short.asked.messages[5:] == messages[-3:]


@pytest.mark.parametrize("text", [" \n", LATE, "word " * 300, "Understood.", "They owe 17 euros."])
def test_a_failed_summary_is_none(text: str | EngineError) -> None:
    assert shorten(Summaries(reading.Words(text), CONTEXT), talk(16)) is None


def test_a_conversation_whose_summary_failed_is_not_summarised_again() -> None:
    reader = reading.Words("", "in short")
    summaries = Summaries(reader, CONTEXT)
    assert shorten(summaries, talk(16)) is None
    assert shorten(summaries, talk(20)) is None
    assert len(reader.written) == 1


def test_after_an_error_of_the_engine_it_is_written_anew() -> None:
    summaries = Summaries(reading.Words(LATE, "in short"), CONTEXT)
    assert shorten(summaries, talk(16)) is None
    assert shorten(summaries, talk(16)) is not None


def test_a_turn_that_cannot_be_read_at_once_is_a_failed_summary() -> None:
    reader = reading.Words()
    messages = (*talk(3)[:-1], *talk(1, words=500)[1:], said("assistant", 5), *talk(9)[1:])
    assert shorten(Summaries(reader, CONTEXT), messages) is None
    assert not any(one.content.count(" ") == 499 for asked in reader.written for one in asked)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("Ana asked for 12 parcels.", True),
        ("Ana asked 3 things about parcel 12.", True),
        ("Ana asked for 120 parcels.", False),
        ("Write only the summary.", False),
        ("", False),
    ],
)
def test_a_summary_may_not_echo_or_invent_numbers(text: str, fits: bool) -> None:
    asked = [Message(role="user", content="It is Ana, about the 12 parcels.")]
    assert credible(text, asked, ENGLISH) is fits


def test_there_is_nothing_to_summarise_in_two_turns() -> None:
    assert shorten(Summaries(reading.Words(), CONTEXT), talk(2, words=200)) is None


def test_the_summary_used_longest_ago_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "KEPT", 2)
    reader = reading.Words()
    summaries = Summaries(reader, CONTEXT)
    talks = [(said("system", n), *talk(16)) for n in (1, 2, 3)]
    for which in (0, 1, 0, 2, 0, 1):
        shorten(summaries, talks[which])
    assert len(reader.written) == 4
