"""It opens on a row of failures, rests, lets one probe through, and closes on success."""

from hypothesis import given
from hypothesis import strategies as st

from residency.serve.breaker import FAILURES, REST, WINDOW, Breaker

EVENTS = st.lists(
    st.tuples(st.floats(0, REST), st.sampled_from(["ask", "fail", "succeed"])), max_size=60
)


def failing(times: int, gap: float = 1.0) -> Breaker:
    breaker = Breaker()
    for number in range(times):
        breaker = breaker.failed(number * gap)
    return breaker


def test_it_opens_at_the_last_of_the_failures() -> None:
    assert failing(FAILURES - 1).permits(FAILURES)
    assert not failing(FAILURES).permits(FAILURES)


def test_failures_far_apart_do_not_count_together() -> None:
    assert failing(5 * FAILURES, gap=WINDOW / (FAILURES - 1)).permits(1e9)
    spread = failing(5 * FAILURES, gap=WINDOW / (FAILURES - 1))
    assert spread.rests is None


def test_a_success_between_starts_the_count_again() -> None:
    breaker = failing(FAILURES - 1).succeeded().failed(FAILURES)
    assert breaker.permits(FAILURES)


def test_after_the_rest_one_probe_passes() -> None:
    opened = FAILURES - 1.0
    breaker = failing(FAILURES)
    assert not breaker.permits(opened + REST - 0.1)
    assert breaker.permits(opened + REST)
    probing = breaker.asked(opened + REST)
    assert not probing.permits(opened + REST)
    assert probing.succeeded() == Breaker()
    assert not probing.failed(opened + REST + 1).permits(opened + 2 * REST)
    assert probing.failed(opened + REST + 1).permits(opened + 2 * REST + 1)


def test_a_probe_that_never_reports_does_not_close_the_way_for_ever() -> None:
    probing = failing(FAILURES).asked(100.0)
    assert probing.permits(100.0 + REST)


def test_asking_a_closed_one_changes_nothing() -> None:
    assert failing(2).asked(9.0) == failing(2)


@given(EVENTS)
def test_an_open_breaker_lets_one_request_pass_in_a_rest(
    events: list[tuple[float, str]],
) -> None:
    breaker, now, last = failing(FAILURES), 100.0, None
    for step, event in events:
        now += step
        if event == "fail":
            breaker = breaker.failed(now)
        elif event == "ask" and breaker.permits(now):
            assert last is None or now - last >= REST
            breaker, last = breaker.asked(now), now
        elif event == "succeed":
            assert breaker.succeeded().permits(now)
