"""Where the lines and bars of the watch report's charts stand, in the units of their SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from residency.pages import round_step

WIDTH, HEIGHT = 700, 190
LEFT, RIGHT, TOP, BOTTOM = 76, 650, 10, 160
_MARKS = 4
_DATES = 5
_APART = 15.0
"""Pixels between the names of two lines."""
_DAY = 86_400.0

Values = Sequence[float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line: its `pieces` are points of polylines, as it is broken where nothing is known; `dots`
    are values that stand alone; `label` is the height of its name."""

    name: str
    pieces: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    label: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A bar from `y` down to the axis."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """`up` and `across` are the axes' marks: pixels and what stands there."""

    lines: tuple[Line, ...]
    bars: tuple[tuple[Bar, ...], ...]
    up: tuple[tuple[float, str], ...]
    across: tuple[tuple[float, str], ...]


def lines(
    rows: Mapping[str, Values],
    starts: Sequence[float],
    words: Callable[[float], str],
    top: float | None = None,
) -> Chart:
    """`rows` as lines by their names over `starts`, in seconds since 1970; `words` writes the marks
    of the axis, which ends at `top`, or above the highest value."""
    highest = top or _top([v for values in rows.values() for v in values if v is not None])
    made = [_line(name, values, highest) for name, values in rows.items()]
    return Chart(lines=tuple(_apart(made)), bars=(), up=_up(highest, words), across=_across(starts))


def bars(
    rows: Sequence[Sequence[float]], starts: Sequence[float], words: Callable[[float], str]
) -> Chart:
    """Each of `rows` as bars, one behind the other, the highest first."""
    top = _top([value for values in rows for value in values])
    width = (RIGHT - LEFT) / max(len(starts), 1)
    drawn = tuple(
        tuple(
            Bar(
                x=round(LEFT + n * width, 1),
                y=_y(value, top),
                width=round(max(width - 1, 0.5), 1),
                height=round(BOTTOM - _y(value, top), 1),
            )
            for n, value in enumerate(values)
            if value
        )
        for values in rows
    )
    return Chart(lines=(), bars=drawn, up=_up(top, words), across=_across(starts))


def _line(name: str, values: Values, top: float) -> Line:
    width = (RIGHT - LEFT) / max(len(values), 1)
    pieces: list[list[tuple[float, float]]] = [[]]
    for n, value in enumerate(values):
        if value is None:
            pieces.append([])
        else:
            pieces[-1].append((round(LEFT + (n + 0.5) * width, 1), _y(value, top)))
    drawn = [piece for piece in pieces if piece]
    return Line(
        name=name,
        pieces=tuple(" ".join(f"{x},{y}" for x, y in piece) for piece in drawn if len(piece) > 1),
        dots=tuple(piece[0] for piece in drawn if len(piece) == 1),
        label=drawn[-1][-1][1] if drawn else BOTTOM,
    )


def _apart(made: Sequence[Line]) -> list[Line]:
    """The lines in their order, their names moved so that none covers another."""
    placed: dict[str, float] = {}
    low = math.inf
    for one in sorted(made, key=lambda line: -line.label):
        low = min(one.label, low - _APART)
        placed[one.name] = low
    over = max(0.0, TOP - low)  # past the upper edge all move down
    return [
        Line(
            name=one.name, pieces=one.pieces, dots=one.dots, label=round(placed[one.name] + over, 1)
        )
        for one in made
    ]


def _top(values: Sequence[float]) -> float:
    highest = max(values, default=0.0)
    return highest * 1.05 if highest > 0 else 1.0


def _y(value: float, top: float) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * value / top, 1)


def _up(top: float, words: Callable[[float], str]) -> tuple[tuple[float, str], ...]:
    step = round_step(top, _MARKS)
    return tuple((_y(n * step, top), words(n * step)) for n in range(int(top / step) + 1))


def _across(starts: Sequence[float]) -> tuple[tuple[float, str], ...]:
    """A few times (UTC): days, or hours where the whole is short."""
    width = (RIGHT - LEFT) / max(len(starts), 1)
    each = max(1, math.ceil(len(starts) / _DATES))
    short = len(starts) > 1 and starts[-1] - starts[0] < 2 * _DAY
    form = "%H:%M" if short else "%d %b"
    return tuple(
        (round(LEFT + n * width, 1), datetime.fromtimestamp(start, UTC).strftime(form))
        for n, start in enumerate(starts)
        if n % each == 0
    )
