from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.watch import windows
from residency.watch.windows import OTHER, SIZES, SLICES, Windows, merged
from tests.watch.events import event


@given(st.lists(st.floats(min_value=0.0, max_value=4000.0), min_size=1, max_size=120))
def test_each_window_has_what_came_in_it(pauses: list[float]) -> None:
    """Against a list of all that came: a window is its slices, the open one included."""
    made, now, came = Windows(["desk"], 0.0), 0.0, list[float]()
    for pause in pauses:
        now += pause
        made.add(event(), 0.0, now)
        came.append(now)
    for name, size in SIZES.items():
        first = (now // size - SLICES) * size
        found = merged(made.over(name, now).values()).requests
        assert found == sum(time >= first for time in came), name


def test_percentiles_of_a_window_are_exact_to_one_percent() -> None:
    made, drawn = Windows(["desk"], 0.0), random.Random(1)
    values = [drawn.lognormvariate(-1, 1) for _ in range(5000)]
    for number, latency in enumerate(values):
        made.add(event(latency=latency), 0.0, number * 0.7)
    now = (len(values) - 1) * 0.7
    tally = made.over("1h", now)["desk"]
    first = (now // 300 - SLICES) * 300
    within = sorted(v for n, v in enumerate(values) if n * 0.7 >= first)
    assert tally.latency.count == len(within)
    for share in (0.5, 0.95, 0.99):
        wanted = within[int(share * (len(within) - 1))]
        assert tally.latency.quantile(share) == pytest.approx(wanted, rel=0.01)


def test_what_is_old_is_forgotten() -> None:
    made = Windows(["desk"], 0.0)
    made.add(event(), 0.0, 1.0)
    assert made.over("24h", 80_000.0)["desk"].requests == 1
    assert made.over("1h", 80_000.0) == {}
    assert made.over("24h", 100_000.0) == {}


def test_a_young_window_is_as_long_as_it_has_been_watched() -> None:
    made = Windows(["desk"], 100.0)
    assert made.seconds("24h", 130.0) == 30.0
    made.add(event(completion_tokens=60), 0.0, 130.0)
    figures = made.over("1m", 130.0)["desk"].figures(made.seconds("1m", 130.0))
    assert figures["tokens_per_second"] == 2.0


def test_figures_say_how_it_went() -> None:
    made = Windows(["desk"], 0.0)
    made.add(event(guards=("empty", "retry:dry")), 0.25, 1.0)
    made.add(event(route="remote", cost=0.5), 0.0, 1.0)
    made.add(event(status=502, error="engine_error", latency=9.0), 0.0, 1.0)
    made.add(event(status=400, error="bad_request", latency=9.0), 0.0, 1.0)
    made.add(event(status=499, error="client_left", latency=9.0), 0.0, 1.0)
    figures = made.over("5m", 2.0)["desk"].figures(2.0)
    assert figures["requests"] == 5
    assert (figures["answered"], figures["failed"], figures["error_rate"]) == (2, 1, 0.2)
    assert figures["errors"] == {"engine_error": 1, "bad_request": 1, "client_left": 1}
    assert figures["share_local"] == 0.5
    assert (figures["cost"], figures["saved"]) == (0.5, 0.25)
    assert figures["guards"] == {"empty": 1, "retry:dry": 1}
    assert figures["latency"]["most"] == 0.1  # of answers alone
    assert figures["per_token"]["p50"] == pytest.approx(0.01, rel=0.01)


def test_names_and_codes_are_bounded() -> None:
    made = Windows([f"m{n}" for n in range(100)], 0.0)
    for number in range(300):
        made.add(event(model=f"m{number}", status=400, error=f"e{number}"), 0.0, 1.0)
    found = made.over("1m", 1.0)
    assert len(found) == windows.MODELS + 1
    assert found[OTHER].requests == 300 - windows.MODELS
    assert len(found[OTHER].errors) == windows.CODES + 1
    assert sum(found[OTHER].errors.values()) == found[OTHER].requests


def test_the_past_is_told_in_pieces_of_five_minutes() -> None:
    made = Windows(["desk"], 0.0)
    for minute in range(21):
        for _ in range(10 if minute < 15 else 2):
            made.add(event(latency=0.1 * (1 + minute // 5)), 0.0, minute * 60.0)
    assert [round(one.p95, 1) for one in made.pieces["desk"]] == [0.1, 0.2, 0.3]
