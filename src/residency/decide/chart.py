"""Where the lines of the break-even chart lie, in the units of its SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from residency.decide.draws import Range
from residency.decide.money import Money, Outlook
from residency.pages import round_step

WIDTH, HEIGHT = 700, 210
LEFT, TOP, RIGHT, BOTTOM = 80, 10, 690, 185
_AMOUNTS = 5  # lines with an amount, at most


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Points of a polygon around 5% to 95%, and of a line along the medians."""

    band: str
    line: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """`amounts` and `months` are places with their figures; `even` is where low, median and high
    of the break-even lie."""

    staying: Curve
    moving: Curve
    amounts: tuple[tuple[float, float], ...]
    months: tuple[tuple[float, int], ...]
    even: tuple[float, ...] | None


def break_even(money: Money, outlook: Outlook) -> Chart:
    """All that staying and moving have cost, from the start to the last month."""
    staying = (Range(low=0.0, mid=0.0, high=0.0), *outlook.staying)
    moving = (money.capital, *outlook.moving)
    top = max([1.0, *(one.high for one in (*staying, *moving))])
    step, even = round_step(top, _AMOUNTS), money.break_even
    return Chart(
        staying=_curve(staying, top),
        moving=_curve(moving, top),
        amounts=tuple((_y(step * n, top), step * n) for n in range(int(top / step) + 1)),
        months=tuple((_x(m, money.horizon), m) for m in range(0, money.horizon + 1, 6)),
        even=(
            tuple(_x(month, money.horizon) for month in (even.low, even.mid, even.high))
            if even
            else None
        ),
    )


def _curve(months: Sequence[Range], top: float) -> Curve:
    def points(end: str) -> list[str]:
        places = enumerate(getattr(one, end) for one in months)
        return [f"{_x(m, len(months) - 1)},{_y(value, top)}" for m, value in places]

    return Curve(band=" ".join(points("high") + points("low")[::-1]), line=" ".join(points("mid")))


def _x(month: float, horizon: int) -> float:
    return round(LEFT + (RIGHT - LEFT) * month / horizon, 1)


def _y(amount: float, top: float) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * amount / top, 1)
