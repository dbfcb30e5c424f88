"""The price table: APIs, machines, and what is uncertain about the rest. See `prices.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from residency.config import Section
from residency.errors import InputError
from residency.strict import nearest, strict, strict_file


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError("the first end of a range must not be above the second")
    return ends


Ends = Annotated[
    tuple[float, float],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
    AfterValidator(_ordered),
]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ApiPrice(Section):
    """Money for a million tokens; `date` is when it was read, `source` where, and where to check
    it."""

    input: Amount
    output: Amount
    cached: Amount
    date: date
    source: str


class Speed(Section):
    """Tokens a second of one machine, all its users together."""

    prompt: Ends
    answer: Ends
    basis: Literal["measured", "estimated"]


class Machine(Section):
    """`price` once and `rent` a month; `months` of life; `memory` in GB; `speeds` names a table."""

    about: str
    price: Ends
    rent: Ends
    months: Ends
    watts_busy: Ends
    watts_idle: Ends
    memory: Amount
    gpu: bool
    speeds: str
    source: str

    @property
    def rented(self) -> bool:
        return self.rent[1] > 0


class Uncertain(Section):
    """What each is stands beside it in `prices.toml`."""

    growth: Ends
    tokens: Ends
    api_price: Ends
    cached: Ends
    peak: Ends
    utilisation: Ends
    leakage: Ends
    power: Ends
    staff_rate: Ends
    staff_hours: Ends
    retraining_hours: Ends
    build_hours: Ends
    build_more_hours: Ends


class Sizes(Section):
    """Billions of weights that a task is first tried with."""

    classification: Amount
    questions: Amount
    reasoning: Amount


class Prices(Section):
    """The whole table. `horizon` is in months."""

    as_of: date
    currency: str
    horizon: Annotated[int, Field(gt=0, le=120)]
    sizes: Sizes
    uncertain: Uncertain
    apis: dict[str, ApiPrice]
    machines: dict[str, Machine]
    speeds: dict[str, dict[str, Speed]]

    def api(self, model: str) -> ApiPrice:
        """The price of `model`, also by a name with its provider before or its date behind.

        Raises `InputError` with the nearest match.
        """
        bare = model.rsplit("/", 1)[-1]
        known = [name for name in self.apis if bare == name or bare.startswith(f"{name}-")]
        return named(self.apis, max(known, key=len, default=model), "API model")

    def speed(self, machine: Machine, billions: float) -> Speed | None:
        """How fast `machine` runs a model of this size, by the row of the next larger one.

        None where it is too large for the machine.
        """
        rows = self.speeds.get(machine.speeds, {})
        fits = [size for size in rows if float(size) >= billions * 0.9]  # 3.2 counts as 3
        return rows[min(fits, key=float)] if fits else None


_Value = TypeVar("_Value")


def named(table: Mapping[str, _Value], name: str, kind: str) -> _Value:
    """The entry `name` of `table`. Raises `InputError` with the nearest match."""
    if name in table:
        return table[name]
    hint = nearest(name, table, words="known", cutoff=0.4)
    raise InputError(f"unknown {kind} {name!r}", hint=hint)


def load(path: Path | None = None) -> Prices:
    """The price table in `path`, or the one that comes with Residency.

    Raises `SettingsError` with file, line and nearest match, and `StorageError`.
    """
    if path:
        return strict_file(Prices, path, place=path.name)
    text = (files("residency.decide") / "prices.toml").read_text(encoding="utf-8")
    return strict(Prices, text, "prices.toml")
