"""The watch report in a real browser: at any width, in light and dark, alone."""

import shutil
from pathlib import Path

import pytest

from residency.watch import report
from tests.watch.test_report import DAY, NOW, START, calls, made, workspace

CHROMIUM = shutil.which("chromium") or ""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium: apt-get install chromium"),
]
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
__all__ = ["workspace"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_and_asks_for_nothing(workspace: Path, scheme: str, width: int) -> None:
    from playwright.sync_api import sync_playwright

    before = calls(2000, START - 28 * DAY, START, seed=1)
    place = report.write(
        workspace, made(workspace, before + calls(900, START, NOW, seed=2, shift=3.0))
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        asked: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text))
        page.goto(place.as_uri())
        page.screenshot(path=str(workspace / f"{scheme}-{width}.png"), full_page=True)
        assert asked == [place.as_uri()] and errors == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.querySelectorAll('polyline').length") > 4
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]
        browser.close()
