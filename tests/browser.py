"""Debian's chromium for the tests of pages: as a reader sees them, and what they ask for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or ""
MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium: apt-get install chromium"),
]
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SIZES = {"desk": DESK, "phone": PHONE}
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A chromium that playwright drives."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        yield launched
        launched.close()


@contextmanager
def opened(browser: Any, file: Path, scheme: str, size: dict[str, int] = DESK) -> Iterator[Any]:
    """The page `file` in a tab with that colour scheme, "light" or "dark". It must fit the width,
    and afterwards have had no error, said nothing, and asked for nothing but itself."""
    context = browser.new_context(color_scheme=scheme, viewport=size)
    tab = context.new_page()
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda said: wrong.append(said.text))
    tab.on("request", lambda asked: wrong.append(asked.url) if asked.url != file.as_uri() else None)
    try:
        tab.goto(file.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= size["width"]
        yield tab
    finally:
        context.close()
    assert not wrong
