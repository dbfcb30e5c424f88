"""The watch report in a real browser: at any width, in light and dark, alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from residency.watch import report
from tests.browser import MARKS, SIZES, browser, opened
from tests.watch.test_report import DAY, NOW, START, calls, made, workspace

__all__ = ["browser", "workspace"]
pytestmark = MARKS


@pytest.mark.parametrize(
    ("scheme", "ground"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 26)")]
)
@pytest.mark.parametrize("size", SIZES)
def test_it_fits_and_asks_for_nothing(
    workspace: Path, browser: Any, scheme: str, ground: str, size: str
) -> None:
    before = calls(2000, START - 28 * DAY, START, seed=1)
    place = report.write(
        workspace, made(workspace, before + calls(900, START, NOW, seed=2, shift=3.0))
    )
    with opened(browser, place, scheme, SIZES[size]) as tab:
        tab.screenshot(path=str(workspace / f"{scheme}-{size}.png"), full_page=True)
        assert tab.locator("polyline").count() > 4
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == ground
