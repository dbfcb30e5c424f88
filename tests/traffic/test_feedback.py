"""What people say of exchanges: kept with them, gone with them, on each engine."""

from residency.traffic.feedback import Feedback
from residency.traffic.mask import pseudonym
from residency.traffic.store import TrafficStore
from tests.traffic.exchanges import NOON, exchange


def said(number: int, **fields: object) -> Feedback:
    values: dict[str, object] = {"exchange": exchange(number).id, "time": NOON, "key": "ada"}
    return Feedback(**values | fields)  # type: ignore[arg-type]


def test_a_later_opinion_takes_the_place_of_the_same_source(either: TrafficStore) -> None:
    either.add([exchange(1), exchange(2)])
    first = said(1, rating="up")
    later = said(1, time=NOON + 1, rating="down", correction="不, \ud800\0", comment="wrong")
    review = said(1, source="review", key="", correction="yes")
    assert either.rate([first, said(2, rating="down")]) == 2
    assert either.rate([later, review]) == 2
    kept = either.feedback()
    assert len(kept) == 3
    assert {(one.source, one.exchange, one.rating) for one in kept} == {
        ("client", exchange(1).id, "down"),
        ("client", exchange(2).id, "down"),
        ("review", exchange(1).id, ""),
    }
    assert "不, \\ud800\\x00" in {one.correction for one in kept}


def test_of_an_exchange_that_is_not_here_nothing_is_kept(either: TrafficStore) -> None:
    either.add([exchange(1)])
    assert either.rate([said(2, rating="up")]) == 0
    assert either.feedback() == []


def test_an_exchange_is_found_by_its_id(either: TrafficStore) -> None:
    either.add([exchange(1), exchange(2)])
    assert either.find(exchange(2).id) == exchange(2)
    assert either.find("req_x' OR '1' = '1") is None


def test_it_is_erased_with_its_subject(either: TrafficStore) -> None:
    either.add(
        [
            exchange(1, subject="bob"),
            exchange(2, subject=pseudonym("bob", either.salt)),
            exchange(3, subject="ada"),
        ]
    )
    either.rate([said(n, rating="down", correction=f"bob's {n}") for n in (1, 2, 3)])
    assert either.about("bob") == [exchange(1).id, exchange(2).id]
    assert either.erase("bob") == 2
    assert [one.exchange for one in either.feedback()] == [exchange(3).id]


def test_it_expires_with_its_exchange(either: TrafficStore) -> None:
    either.add([exchange(1), exchange(2)])
    either.rate([said(1, rating="up"), said(2, rating="up")])
    assert either.expire(NOON + 2) == 1
    assert [one.exchange for one in either.feedback()] == [exchange(2).id]


def test_personal_data_is_masked() -> None:
    one = said(1, correction="write to jo@example.org", comment="call 555-867-5309").masked()
    assert (one.correction, one.comment) == ("write to [EMAIL_1]", "call [PHONE_1]")
    assert (one.exchange, one.key) == (exchange(1).id, "ada")
