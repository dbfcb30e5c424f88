"""The traffic report's page: one HTML file that needs nothing beside itself."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from residency.pages import template
from residency.traffic.pii import LIMITS

WIDTH, HEIGHT = 560, 200
"""Of the plot of the curve, in pixels."""
CROSSED = 12
"""Rows of a comparison's table; of each row the most common values only."""


def render(report: Mapping[str, Any]) -> str:
    """The page, from what traffic.json holds (`residency.traffic.report.Report`)."""
    page = template("residency.traffic", "report.html.j2", seconds=seconds, day=day, points=points)
    return page.render(
        v=report, t=report["report"], limits=LIMITS, width=WIDTH, height=HEIGHT, head=_head
    )


def points(curve: Sequence[float]) -> str:
    """The curve, from nothing, as the points of an SVG polyline."""
    step = WIDTH / max(len(curve), 1)
    rows = enumerate([0.0, *curve])
    return " ".join(f"{k * step:.1f},{HEIGHT * (1 - share):.1f}" for k, share in rows)


def _head(counts: Mapping[str, Any], most: int = CROSSED) -> list[tuple[str, Any]]:
    return list(itertools.islice(counts.items(), most))


def seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} s" if value < 10 else f"{value:,.0f} s"


def day(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d")
