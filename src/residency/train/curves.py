"""Where the lines of the training page's charts lie, in the units of their SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from residency.pages import round_step

WIDTH, HEIGHT = 700, 200
LEFT, TOP, RIGHT, BOTTOM = 56, 12, 688, 172
_MARKS = 5
_DECADES = 50.0
"""Largest through smallest value, from which an axis counts in powers of ten."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """`lines` are polylines by name; `dots` places with their words; `across` and `up` the axes'
    marks with what stands there; `words` say all of it to whoever does not see it."""

    lines: Mapping[str, str]
    dots: tuple[tuple[float, float, str], ...]
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]
    words: str


def chart(
    lines: Mapping[str, Sequence[Sequence[float]]],
    dots: Sequence[Sequence[float]],
    name: str,
    *,
    tens: bool = False,
) -> Chart | None:
    """The chart of pairs of step and value; None of nothing. With `tens` the upward axis counts in
    powers of ten where values are of many sizes."""
    drawn = {label: points for label, points in lines.items() if points}
    whole = [point for points in (*drawn.values(), dots) for point in points]
    if not whole:
        return None
    last, top = max(step for step, _ in whole), max(value for _, value in whole)
    low = min((value for _, value in whole if value > 0), default=0.0)
    logs = low > 0 and top / low >= _DECADES and tens
    floor, ceiling, marks = _decades(low, top) if logs else _even(top)

    def across(step: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * step / last, 1)

    def up(value: float) -> float:
        value = math.log10(max(value, low)) if logs else value
        return round(BOTTOM - (BOTTOM - TOP) * (value - floor) / (ceiling - floor), 1)

    step = max(1.0, round_step(last, _MARKS))
    return Chart(
        lines={
            label: " ".join(f"{across(s)},{up(v)}" for s, v in points)
            for label, points in drawn.items()
        },
        dots=tuple((across(s), up(v), f"step {s:g}: {v:.4g}") for s, v in dots),
        across=tuple((across(n * step), f"{n * step:g}") for n in range(int(last / step) + 1)),
        up=tuple((up(value), f"{value:.3g}") for value in marks),
        words=f"{name} over {last:g} steps: "
        + "; ".join(
            f"{label} from {points[0][1]:.3g} to {points[-1][1]:.3g}"
            for label, points in {**drawn, "validation": dots}.items()
            if points
        ),
    )


def _even(top: float) -> tuple[float, float, list[float]]:
    step = round_step(top or 1.0, _MARKS)
    count = math.ceil((top or 1.0) / step)
    return 0.0, count * step, [n * step for n in range(count + 1)]


def _decades(low: float, top: float) -> tuple[float, float, list[float]]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(top))
    return first, last, [10.0**n for n in range(first, last + 1)]
