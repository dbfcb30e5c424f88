from __future__ import annotations

import math
import random

import pytest

from residency.watch.growth import Reading, Series, slope, steady


def readings(values: list[float]) -> tuple[Reading, ...]:
    return tuple(Reading(60.0 * n, value) for n, value in enumerate(values))


def test_the_slope_is_the_median_of_all_pairs() -> None:
    # Pairs by hand: 1, 2.5, 0, 4, -0.5, -5 a minute; their median is 0.5.
    found = slope(readings([0.0, 1.0, 5.0, 0.0]))
    assert found is not None
    assert found.value * 60 == pytest.approx(0.5)
    assert found.low * 60 == pytest.approx(-5)
    assert found.high * 60 == pytest.approx(4)


def test_two_readings_tell_nothing() -> None:
    assert slope(readings([1.0, 2.0])) is None


def test_a_jump_does_not_move_it() -> None:
    found = slope(readings([*(100.0 + n for n in range(30)), *(900.0 + n for n in range(5))]))
    assert found is not None
    assert found.value * 60 == pytest.approx(1.0, abs=0.1)


def test_its_interval_holds_the_true_slope_as_often_as_it_says() -> None:
    """95 of 100 times, of 400 noisy series of a known slope; 92 to 98 is within four errors."""
    drawn, held = random.Random(7), 0
    for _ in range(400):
        found = slope(readings([2.0 * n + drawn.gauss(0, 20) for n in range(40)]))
        assert found is not None
        held += found.low * 60 <= 2.0 <= found.high * 60
    assert 0.91 <= held / 400 <= 0.99


def test_noise_grows_steadily_hardly_ever() -> None:
    drawn = random.Random(3)
    found = [steady(readings([drawn.gauss(100, 5) for _ in range(60)])) for _ in range(200)]
    assert sum(one is not None for one in found) <= 3


def test_what_warms_up_is_no_leak() -> None:
    drawn = random.Random(5)
    warm = [100 * (1 - math.exp(-n / 4)) + drawn.gauss(0, 0.5) for n in range(60)]
    found = slope(readings(warm))
    assert found is not None and found.low > 0
    assert steady(readings(warm)) is None
    assert steady(readings([100 + n + drawn.gauss(0, 0.5) for n in range(60)])) is not None


def test_readings_are_averaged_and_the_last_ones_kept() -> None:
    series = Series(step=60.0, most=3)
    for second in range(0, 361, 30):
        series.add(float(second), float(second))
    assert [one.value for one in series.readings] == [195.0, 255.0, 315.0]
