"""Size against quality: where the points and labels of the report's plot stand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 44, 70, 14, 270
_LABEL = 13  # pixels from one line of text to the next
_CHARACTER = 7  # pixels of one in a label


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A build: its place, the ends of its interval, and where its name is written (pixels)."""

    name: str
    words: str
    released: bool
    x: float
    y: float
    low: float
    high: float
    label: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """`across` and `up` are the axes' marks: pixels and what stands there. `api` is the height of
    the API's rate, which has no size; None where there is none."""

    points: tuple[Point, ...]
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]
    api: float | None


def plot(rows: Sequence[Mapping[str, Any]], main: str, release: str | None) -> Plot:
    """The plot of the rate `main`, from the rows of `verdict.json`."""
    shown = [row for row in rows if main in row["rates"] and row["rates"][main]["n"]]
    builds = [row for row in shown if row["size"]]
    widest = max((row["size"] for row in builds), default=1) * 1.05
    floor = min((row["rates"][main]["low"] for row in shown), default=0.0)
    floor = max(0.0, math.floor(floor * 10 - 0.5) / 10)

    def across(size: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * size / widest, 1)

    def up(rate: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * (rate - floor) / (1 - floor), 1)

    points: list[Point] = []
    for row in builds:
        rate, x = row["rates"][main], across(row["size"])
        points.append(
            Point(
                name=row["build"],
                words=f"{row['build']}: {row['size'] / 1e6:.0f} MB, {rate['value']:.3f}, "
                f"95% interval {rate['low']:.3f} to {rate['high']:.3f}",
                released=row["build"] == release,
                x=x,
                y=up(rate["value"]),
                low=up(rate["low"]),
                high=up(rate["high"]),
                label=_free(row["build"], x, up(rate["value"]), points),
            )
        )
    step = 10 ** math.floor(math.log10(widest / 1e6)) * 1e6
    step = step / 2 if widest / step < 3 else step
    api = next((row["rates"][main]["value"] for row in shown if not row["size"]), None)
    return Plot(
        points=tuple(points),
        across=tuple(
            (across(n * step), f"{n * step / 1e6:g}") for n in range(int(widest / step) + 1)
        ),
        up=tuple((up(n / 10), f"{n / 10:.1f}") for n in range(round(floor * 10), 11)),
        api=None if api is None else up(api),
    )


def _free(name: str, x: float, y: float, before: Sequence[Point]) -> float:
    """A height for the label `name` beside (x, y) at which none of `before` stands."""
    taken = [one.label for one in before if -_wide(name) < x - one.x < _wide(one.name)]
    tries = (y + side * n * _LABEL for n in range(len(taken) + 1) for side in (1, -1))
    return round(next(t for t in tries if all(abs(t - one) >= _LABEL for one in taken)), 1)


def _wide(label: str) -> int:
    return _CHARACTER * (len(label) + 1)
