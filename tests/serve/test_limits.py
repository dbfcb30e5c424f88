"""Within the limits everything passes, past them nothing, whatever the clock does."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.serve.asked import ANYONE, Caller
from residency.serve.errors import RequestError, fault_of
from residency.serve.limits import WINDOW, Bucket, Limits, duration, take

BOB = Caller(name="bob", requests=3, tokens=100)
AMOUNTS = st.integers(0, 60)
STEPS = st.floats(0, 100)


def refused(limits: Limits, caller: Caller, tokens: int, now: float) -> RequestError:
    with pytest.raises(RequestError) as caught:
        limits.take(caller, tokens, now)
    assert (caught.value.status, caught.value.code) == (429, "rate_limit_exceeded")
    return caught.value


@given(st.lists(st.tuples(STEPS, AMOUNTS), max_size=60))
def test_no_window_gives_more_than_the_bucket_and_what_flows_in(
    asks: list[tuple[float, int]],
) -> None:
    state, now, given_ = Bucket.full(60, 0.0), 0.0, []
    for step, amount in asks:
        now += step
        state, allowed, _ = take(state, now, amount)
        if allowed:
            given_.append((now, amount))
    for start, _ in given_:
        for end, _ in given_:
            total = sum(amount for time, amount in given_ if start <= time <= end)
            assert total <= 60 + (end - start) * 60 / WINDOW + 1e-6 or end < start


@given(st.lists(st.tuples(st.floats(-1000, 1000), AMOUNTS), max_size=40), st.floats(-1e6, 1e6))
def test_after_the_wait_it_passes_wherever_the_clock_has_jumped(
    asks: list[tuple[float, int]], start: float
) -> None:
    state, now = Bucket.full(60, start), start
    for step, amount in asks:
        now += step
        state, allowed, wait = take(state, now, amount)
        assert allowed == (wait == 0)
        assert wait <= WINDOW
        assert take(state, now + wait + 1e-3, amount).allowed or allowed


@given(st.floats(0, 1e6))
def test_a_clock_set_back_gives_nothing(back: float) -> None:
    state = take(Bucket.full(60, 1e6), 1e6, 60).state
    assert not take(state, 1e6 - back, 1).allowed


def test_more_than_the_bucket_holds_never_passes() -> None:
    assert take(Bucket.full(60, 0), 0, 61) == (Bucket.full(60, 0), False, math.inf)


def test_requests_past_the_limit_are_refused_until_the_time_that_is_named() -> None:
    limits = Limits()
    for _ in range(3):
        limits.take(BOB, 1, 0.0)
    error = refused(limits, BOB, 1, 0.0)
    assert "'bob': 3 requests a minute; try again in 20s" in error.message
    assert error.headers["retry-after"] == "20"
    refused(limits, BOB, 1, 19.9)
    limits.take(BOB, 1, 20.0)


def test_the_headers_reach_the_answer() -> None:
    limits = Limits()
    for _ in range(3):
        limits.take(BOB, 1, 0.0)
    headers = fault_of(refused(limits, BOB, 1, 0.0)).headers()
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["retry-after"] == "20"


def test_tokens_are_settled_by_what_was_used() -> None:
    limits = Limits()
    limits.take(BOB, 100, 0.0)
    refused(limits, BOB, 40, 0.0)
    limits.settle(BOB, 100, 60, 0.0)
    limits.take(BOB, 40, 0.0)
    limits.settle(BOB, 40, 90, 0.0)
    assert refused(limits, BOB, 1, 0.0).headers["retry-after"] == "31"


def test_settling_gives_no_more_than_a_full_bucket() -> None:
    limits = Limits()
    limits.take(BOB, 80, 0.0)
    limits.settle(BOB, 80, 0, 60.0)
    assert limits.headers(BOB, 60.0)["x-ratelimit-remaining-tokens"] == "100"


def test_a_refused_request_takes_neither_requests_nor_tokens() -> None:
    limits = Limits()
    limits.take(BOB, 60, 0.0)
    before = limits.headers(BOB, 0.0)
    refused(limits, BOB, 60, 0.0)
    assert limits.headers(BOB, 0.0) == before


def test_a_request_that_can_never_pass_is_not_to_be_tried_again() -> None:
    error = refused(Limits(), BOB, 101, 0.0)
    assert error.headers["x-should-retry"] == "false"
    assert "retry-after" not in error.headers


def test_the_headers_are_openais() -> None:
    limits = Limits()
    limits.take(BOB, 50, 0.0)
    assert limits.headers(BOB, 0.0) == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "20s",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "50",
        "x-ratelimit-reset-tokens": "30s",
    }


def test_without_limits_nothing_is_counted_or_kept() -> None:
    limits = Limits()
    for _ in range(5):
        limits.take(ANYONE, 10**9, 0.0)
    limits.settle(ANYONE, 5, 1, 0.0)
    assert limits.headers(ANYONE, 0.0) == {}
    assert not limits._buckets


def test_a_key_made_anew_with_another_limit_has_it() -> None:
    limits = Limits()
    limits.take(BOB, 1, 0.0)
    assert limits.headers(Caller(name="bob", requests=9), 0.0) == {
        "x-ratelimit-limit-requests": "9",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "0s",
    }


def test_callers_do_not_share_and_the_memory_is_bounded() -> None:
    limits = Limits(most=2)
    for name in ("a", "b", "a", "c"):
        limits.take(Caller(name=name, requests=9), 0, 0.0)
    left = {
        n: limits.headers(Caller(name=n, requests=9), 0.0)["x-ratelimit-remaining-requests"]
        for n in ("a", "b", "c")
    }
    assert left == {"a": "7", "b": "9", "c": "8"}
    assert len(limits._buckets) == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.02, "20ms"), (0.0001, "1ms"), (1, "1s"), (1.5, "1.5s"), (0.9999, "1s"),
     (59.9999, "1m0s"), (60, "1m0s"), (360, "6m0s"), (86.4, "1m26.4s")],
)  # fmt: skip
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
