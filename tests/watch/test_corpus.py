"""Served traffic becomes the next data set."""

from collections.abc import Sequence

from residency.config import DataSettings
from residency.data.added import Added
from residency.types import Exchange
from residency.watch.corpus import Corpus, corpus
from residency.watch.trust import judge, opinions
from tests.data.rows import row
from tests.watch.exchanges import said, served

SETTINGS = DataSettings(file="d.jsonl", system="Desk.", test=0.2, validation=0.1)
SIDES = {
    "train": [row("where is my bill for the tooth", "bill", 1, "Desk.")],
    "validation": [row("please move my visit to friday", "visit", 2, "Desk.")],
    "test": [row("the pharmacy has lost my refill", "refill", 3, "Desk.")],
}


def made(
    exchanges: Sequence[Exchange],
    feedback: Sequence = (),
    before: Sequence[Added] = (),
    sides=SIDES,
    **more,
) -> Corpus:
    said_ = opinions(feedback)
    judged = [one for e in exchanges if (one := judge(e, said_, {"api"}))]
    return corpus(judged, sides, before, SETTINGS, **more)


def learnt(found: Corpus) -> dict[str, str]:
    return {one.row.question: one.row.answer for one in found.rows}


def test_what_people_and_apis_said_is_taken_with_where_it_is_from() -> None:
    exchanges = [
        served(1, "is there a lift", build="desk-1"),
        served(2, "are dogs allowed inside", "no", build="desk-1"),
        served(3, "who is my doctor now", "ask", routes=["desk", "api"], build="gpt"),
        served(4, "how late is it there", "late"),
        served(5, "my arm is blue", "hm"),
        served(6, "can i pay by card here", "card", routes=["api"]),
    ]
    feedback = [said(1, "up"), said(2, "down", "only guide dogs"), said(5, "down")]
    found = made(exchanges, feedback)
    assert learnt(found) == {
        "is there a lift": "yes",
        "are dogs allowed inside": "only guide dogs",
        "who is my doctor now": "ask",
    }
    about = {one.exchange: (one.why, one.answered) for one in found.rows}
    assert about == {
        "req_000001": ("rated up", "desk-1"),
        "req_000002": ("corrected", "a person"),
        "req_000003": ("escalated", "gpt"),
    }
    assert found.counts["rated down"] == 1 and found.counts["added"] == 3
    assert "can i pay by card here" in learnt(made(exchanges, feedback, unrated=True))


def test_what_is_near_the_test_split_never_enters() -> None:
    exchanges = [
        served(1, "The pharmacy has lost my refill!"),
        served(2, "the pharmacy lost my refill"),
    ]
    found = made(exchanges, [said(1, "up"), said(2, "down", "other")])
    assert found.rows == []
    assert found.counts["near the test split"] == 2


def test_what_is_near_another_row_joins_its_side() -> None:
    exchanges = [
        served(1, "where is my bill for the teeth"),
        served(2, "please move my visit to a friday"),
    ]
    found = made(exchanges, [said(1, "up"), said(2, "up")])
    assert [one.split for one in found.rows] == ["train", "validation"]


def test_sides_are_drawn_by_the_text_in_the_shares_of_the_settings() -> None:
    exchanges = [
        served(n, f"{n * 7919} and {n * n} of a kind that is {n**5} alone") for n in range(400)
    ]
    feedback = [said(n, "up") for n in range(400)]
    sides = [one.split for one in made(exchanges, feedback).rows]
    assert 0.13 < sides.count("test") / len(sides) < 0.27
    assert 0.05 < sides.count("validation") / len(sides) < 0.16
    again = made(exchanges[::-1], feedback)
    assert {one.exchange: one.split for one in again.rows} == {
        one.exchange: one.split for one in made(exchanges, feedback).rows
    }


def test_a_row_keeps_its_side_and_takes_a_better_answer() -> None:
    exchanges = [served(1, "is there a lift"), served(2, "are dogs allowed inside")]
    first = made(exchanges, [said(1, "up"), said(2, "up")])
    moved = [Added(row=one.row, split="test", exchange=one.exchange) for one in first.rows]
    again = made(exchanges, [said(1, "down", "no"), said(2, "up")], moved)
    assert learnt(again) == {"is there a lift": "no", "are dogs allowed inside": "yes"}
    assert [one.split for one in again.rows] == ["test", "test"]
    assert (again.counts["changed"], again.counts["known"]) == (1, 1)
    withdrawn = made(exchanges, [said(1, "down")], moved)
    assert learnt(withdrawn) == {"are dogs allowed inside": "yes"}
    # What was erased or has expired since stays: a row is its own.
    assert len(made([], [], moved).rows) == 2


def test_the_better_word_goes_before_and_the_majority_decides() -> None:
    exchanges = [served(n, "is there a lift", f"answer {n}") for n in range(1, 6)]
    review = said(2, "down", "reviewed", source="review")
    found = made(exchanges, [said(1, "up"), review, said(3, "down", "corrected")])
    assert learnt(found) == {"is there a lift": "reviewed"}
    three = [said(1, "down", "a"), said(2, "down", "b"), said(3, "down", "B")]
    assert learnt(made(exchanges, three)) == {"is there a lift": "B"}


def test_what_people_do_not_agree_on_waits_for_a_label() -> None:
    exchanges = [served(n, "is there a lift") for n in (1, 2)]
    found = made(exchanges, [said(1, "down", "a"), said(2, "down", "b")])
    assert found.rows == []
    assert [one.exchange for one in found.contradictory] == ["req_000002"]


def test_the_data_file_is_not_contradicted_silently() -> None:
    same, other = (
        served(1, "Where is my bill for the tooth", "bill"),
        served(2, "please move my visit to friday", "x"),
    )
    found = made([same, other], [said(1, "up"), said(2, "down", "bill")])
    assert found.rows == []
    assert found.counts["in the data file"] == 1
    assert [one.exchange for one in found.contradictory] == ["req_000002"]


def test_without_a_data_file_there_is_nothing_to_be_near() -> None:
    found = made([served(1, "the pharmacy has lost my refill")], [said(1, "up")], sides={})
    assert len(found.rows) == 1
