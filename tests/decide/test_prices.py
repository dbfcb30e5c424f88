"""The price table: the shipped one loads, a user's is read strictly, names are found."""

from datetime import date
from importlib.resources import files
from pathlib import Path

import pytest

from residency.decide import prices
from residency.errors import InputError, SettingsError, StorageError

SHIPPED = (files("residency.decide") / "prices.toml").read_text(encoding="utf-8")


def edited(tmp_path: Path, old: str, new: str) -> Path:
    assert SHIPPED.count(old) >= 1
    path = tmp_path / "prices.toml"
    path.write_text(SHIPPED.replace(old, new, 1), encoding="utf-8")
    return path


def line_of(text: str) -> int:
    return next(n for n, line in enumerate(SHIPPED.splitlines(), 1) if line.startswith(text))


def test_the_shipped_table_says_from_when_and_where_each_price_is() -> None:
    table = prices.load()
    assert table.as_of >= date(2026, 11, 24)
    for price in table.apis.values():
        assert price.date <= table.as_of
        assert "check at" in price.source
        assert price.cached <= price.input


def test_every_machine_has_speeds_and_is_bought_or_rented() -> None:
    table = prices.load()
    for machine in table.machines.values():
        assert table.speeds[machine.speeds]
        assert machine.rented != (machine.price[1] > 0)


def test_a_users_table_takes_its_place(tmp_path: Path) -> None:
    path = edited(tmp_path, "horizon = 36", "horizon = 24")
    assert prices.load(path).horizon == 24


def test_an_unknown_key_names_line_and_nearest_match(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        prices.load(edited(tmp_path, "[uncertain]\n", "[uncertain]\nleakge = [0.0, 0.1]\n"))
    assert f"prices.toml:{line_of('[uncertain]') + 1}" in caught.value.message
    assert caught.value.hint == "did you mean leakage?"


@pytest.mark.parametrize("ends", ["[2.0, 1.0]", "[1.0]", "[1.0, 2.0, 3.0]", '["a", 2.0]', "3.0"])
def test_a_range_that_is_none_is_refused(tmp_path: Path, ends: str) -> None:
    with pytest.raises(SettingsError, match=r"uncertain\.growth"):
        prices.load(edited(tmp_path, "growth = [-0.01, 0.03]", f"growth = {ends}"))


def test_a_negative_price_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="greater than or equal to 0"):
        prices.load(edited(tmp_path, "input = 2.0", "input = -2.0"))


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.toml"):
        prices.load(tmp_path / "none.toml")


def test_an_api_is_found_by_provider_and_dated_name() -> None:
    table = prices.load()
    assert table.api("openai/gpt-4o-mini-2024-07-18") == table.apis["gpt-4o-mini"]
    with pytest.raises(InputError) as caught:
        table.api("gpt-4x")
    assert "did you mean gpt-4" in caught.value.hint


def test_a_speed_is_that_of_the_next_larger_model() -> None:
    table = prices.load()
    machine = table.machines["cpu-2"]
    rows = table.speeds["cpu-2"]
    assert table.speed(machine, 0.5) == rows["1"]
    assert table.speed(machine, 3.2) == rows["3"]
    assert table.speed(machine, 70) is None
