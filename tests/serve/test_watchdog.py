from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from residency.serve.watchdog import GROWTH, SETTLED, STRIKES, Memory

MB = 1_000_000


def told(readings: list[int], limit: int = 0) -> str:
    """The words after a first minute at 100 MB and then these readings."""
    memory = Memory(since=0.0).read(100 * MB, 1.0, limit)
    for number, reading in enumerate(readings):
        memory = memory.read(reading, SETTLED + number, limit)
    return memory.words


def test_three_readings_over_the_limit_in_a_row_decide() -> None:
    assert told([301 * MB] * 3, limit=300 * MB) == "its memory is 301 MB, over 300 MB"
    assert told([301 * MB] * 2, limit=300 * MB) == ""
    assert told([301 * MB, 301 * MB, 299 * MB, 301 * MB], limit=300 * MB) == ""


def test_without_a_limit_growth_decides() -> None:
    assert told([201 * MB] * 3) == "its memory is 201 MB, over 200 MB"
    assert told([200 * MB] * 9) == ""


def test_the_first_minute_is_the_engines_own() -> None:
    memory = Memory(since=0.0)
    for second in range(int(SETTLED)):
        memory = memory.read(900 * MB, float(second), 300 * MB)
    assert (memory.words, memory.first) == ("", 900 * MB)


def test_an_engine_over_its_limit_from_the_start_is_not_replaced_for_it() -> None:
    assert told([150 * MB] * 9, limit=50 * MB) == ""
    assert told([201 * MB] * 3, limit=50 * MB) == "its memory is 201 MB, over 200 MB"


def test_no_reading_is_no_reading() -> None:
    assert told([301 * MB, 0, 301 * MB, 0, 301 * MB], limit=300 * MB) != ""


@given(st.lists(st.integers(1, int(100 * MB * GROWTH)), max_size=STRIKES * 4))
def test_what_stays_below_is_left_alone(readings: list[int]) -> None:
    assert told(readings) == ""
