"""What moving costs and saves."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.decide import money, prices
from residency.decide.draws import Range
from residency.decide.facts import Facts, Load
from residency.decide.money import Money
from residency.errors import InputError

TABLE = prices.load()
CALLS = st.floats(0, 1e8)


def load(name: str = "a", calls: float = 300_000, cost: float | None = None) -> Load:
    return Load(
        name=name,
        task="questions",
        calls=calls,
        prompt_tokens=300,
        completion_tokens=80,
        cost=cost,
    )


def facts(*loads: Load, machine: str = "", peak: float | None = None) -> Facts:
    return Facts(loads=loads, api_model="gpt-4o", machine=machine, peak=peak)


def table(**changed: tuple[float, float]) -> prices.Prices:
    """The shipped table with some of `uncertain` changed."""
    return TABLE.model_copy(update={"uncertain": TABLE.uncertain.model_copy(update=changed)})


def forecast(
    asked: Facts, moved: list[str], prices: prices.Prices, seed: int = 17, billions: float = 3.0
) -> Money:
    """With the loads that move by name."""
    loads = [one for one in asked.loads if one.name in moved]
    return money.forecast(asked, loads, prices, billions, seed=seed)


def certain() -> prices.Prices:
    """A table in which nothing is uncertain but the machine's speed, nothing grows, and no person
    is paid."""
    names = type(TABLE.uncertain).model_fields
    fixed = dict.fromkeys(names, (0.0, 0.0))
    fixed |= {"tokens": (1.0, 1.0), "api_price": (1.0, 1.0), "peak": (1.0, 1.0)}
    return table(**fixed | {"utilisation": (1.0, 1.0)})


def test_one_seed_gives_one_forecast() -> None:
    asked = facts(load())
    assert forecast(asked, ["a"], TABLE) == forecast(asked, ["a"], TABLE)
    assert forecast(asked, ["a"], TABLE, seed=18) != forecast(asked, ["a"], TABLE)


@settings(max_examples=20, deadline=None)
@given(fewer=CALLS, more=CALLS)
def test_more_calls_never_lower_the_api_bill(fewer: float, more: float) -> None:
    fewer, more = sorted((fewer, more))
    small = forecast(facts(load(calls=fewer), machine="l4"), ["a"], TABLE)
    large = forecast(facts(load(calls=more), machine="l4"), ["a"], TABLE)
    assert small.api.low <= large.api.low
    assert small.api.mid <= large.api.mid
    assert small.own.mid <= large.own.mid * (1 + 1e-12)


@settings(max_examples=20, deadline=None)
@given(calls=CALLS, cost=st.floats(0, 1e6))
def test_ranges_are_in_order_and_the_parts_add_up(calls: float, cost: float) -> None:
    found = forecast(facts(load(calls=calls, cost=cost), machine="l4"), ["a"], TABLE)
    for value in (found.api, found.own, found.after, found.saving, found.capital):
        assert value.low <= value.mid <= value.high
    assert 0 <= found.pays_back <= 1
    assert found.after.low >= found.own.low


def test_no_calls_never_pay_back() -> None:
    found = forecast(facts(load(calls=0)), ["a"], TABLE)
    assert (found.break_even, found.pays_back) == (None, 0.0)
    assert (found.a_million_api, found.a_million_own) == (None, None)
    assert found.saving.high < 0


def test_hardly_a_call_says_nothing_of_a_million() -> None:
    """And no division by next to nothing overflows."""
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        found = forecast(facts(load(calls=1e-300, cost=1e6)), ["a"], TABLE)
    assert (found.a_million_api, found.a_million_own) == (None, None)


def test_where_nothing_moves_nothing_changes() -> None:
    found = forecast(facts(load()), [], TABLE)
    assert found.after == found.api
    assert found.capital == found.own == found.saving == Range(low=0, mid=0, high=0)
    assert (found.machine, found.swings, found.pays_back) == ("", (), 0.0)


def test_the_bill_is_that_of_the_price_table() -> None:
    """300,000 calls of 300 and 80 tokens at 2.50 and 10 a million: 225 and 240."""
    assert forecast(facts(load()), [], certain()).api.mid == pytest.approx(465)


def test_a_bill_from_the_log_goes_before_the_price_table() -> None:
    assert forecast(facts(load(cost=1000.0)), [], certain()).api.mid == pytest.approx(1000)


def test_what_stays_is_still_paid() -> None:
    asked = facts(load(cost=800.0), load("b", cost=200.0))
    found = forecast(asked, ["a"], certain())
    assert found.after.mid == pytest.approx(found.own.mid + 200)
    leaks = table(**{**certain().uncertain.model_dump(), "leakage": (0.1, 0.1)})
    leaking = forecast(asked, ["a"], leaks)
    assert leaking.after.mid == pytest.approx(leaking.own.mid + 280)
    seen = money.outlook(asked, asked.loads[:1], leaks, 3.0)
    assert seen.whole.left.mid == pytest.approx(280)
    (only,) = seen.moved
    assert (only.name, only.bill.mid, only.calls.mid) == ("a", 800, 300_000)
    assert only.left.mid == pytest.approx(80)
    assert seen.whole.calls.mid == 600_000


def test_a_machine_that_costs_nothing_saves_the_whole_bill_from_the_first_month() -> None:
    free = {"price": (0.0, 0.0), "watts_busy": (0.0, 0.0), "watts_idle": (0.0, 0.0)}
    machine = TABLE.machines["l4"].model_copy(update=free)
    here = certain().model_copy(update={"machines": {"gift": machine}})
    found = forecast(facts(load(cost=1000.0)), ["a"], here)
    assert found.saving.low == pytest.approx(1000)
    assert found.break_even == Range(low=1, mid=1, high=1)
    assert found.capital.high == 0


def test_the_month_in_which_the_capital_is_back() -> None:
    """A machine of 4,500 that saves 1,000 a month has paid for itself in the fifth month."""
    fixed = {"price": (4500.0, 4500.0), "watts_busy": (0.0, 0.0), "watts_idle": (0.0, 0.0)}
    machine = TABLE.machines["l4"].model_copy(update={**fixed, "months": (45.0, 45.0)})
    here = certain().model_copy(update={"machines": {"one": machine}})
    found = forecast(facts(load(calls=1000, cost=1000.0)), ["a"], here)
    assert found.break_even == Range(low=5, mid=5, high=5)
    assert found.capital.mid == 4500
    asked = facts(load(calls=1000, cost=1000.0))
    seen = money.outlook(asked, asked.loads, here, 3.0)
    assert [one.mid for one in seen.staying[:6]] == [1000, 2000, 3000, 4000, 5000, 6000]
    assert [one.mid for one in seen.moving[:6]] == [4500] * 6
    assert len(seen.staying) == len(seen.moving) == found.horizon
    assert found.own.mid == pytest.approx(100)


def test_a_higher_peak_takes_more_machines() -> None:
    quiet = forecast(facts(load(), machine="cpu-16", peak=10), ["a"], TABLE)
    busy = forecast(facts(load(), machine="cpu-16", peak=2000), ["a"], TABLE)
    assert busy.machines.low > quiet.machines.high
    assert busy.own.mid > quiet.own.mid


def test_data_that_may_not_leave_gets_a_bought_machine() -> None:
    asked = facts(load(calls=2_000_000))
    at_home = forecast(replace(asked, may_leave=False), ["a"], TABLE)
    assert not TABLE.machines[at_home.machine].rented
    anywhere = forecast(asked, ["a"], TABLE)
    assert anywhere.own.mid <= at_home.own.mid * 1.05


def test_each_swing_spans_the_forecast_of_its_input() -> None:
    found = forecast(facts(load(cost=5000.0), machine="l4"), ["a"], TABLE)
    sizes = [abs(swing.high - swing.low) for swing in found.swings]
    assert sizes == sorted(sizes, reverse=True)
    swing = {s.name: s for s in found.swings}
    assert swing["leakage"].low > swing["leakage"].high
    assert swing["tokens"].low < swing["tokens"].high
    fixed = forecast(facts(load(cost=5000.0), machine="l4"), ["a"], table(leakage=(0.1, 0.1)))
    assert "leakage" not in {s.name for s in fixed.swings}


def share_below(found: Money, limit: float) -> bool:
    return found.a_million_own is not None and found.a_million_own.mid < limit


def test_the_claim_of_a_hundredth_of_a_cent_a_call_needs_tens_of_millions_of_calls() -> None:
    """0.02 against 0.0001 a call: 100 a million, below what people cost at a million calls."""
    assert not share_below(forecast(facts(load(calls=1e6)), ["a"], TABLE), 100)
    assert share_below(forecast(facts(load(calls=5e7)), ["a"], TABLE), 200)


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        (facts(load(), machine="l5"), "did you mean l4?"),
        (replace(facts(load()), api_model="gpt-4x"), "did you mean gpt-4"),
    ],
)
def test_unknown_names_are_refused(asked: Facts, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        forecast(asked, ["a"], TABLE)
    assert hint in caught.value.hint


def test_a_machine_too_small_for_the_model_is_refused() -> None:
    with pytest.raises(InputError, match="no speed for 70B"):
        forecast(facts(load(), machine="cpu-2"), ["a"], TABLE, billions=70)
    with pytest.raises(InputError, match="no machine"):
        forecast(facts(load()), ["a"], TABLE, billions=70)
