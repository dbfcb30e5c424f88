"""What long work tells the person who waits, on stderr: bars on a terminal, else plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")
_PLAIN_SECONDS = 5.0


def say(text: str) -> None:
    """One line to the person, on stderr."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """Counts `done` of `total` with the time that is left, or of a total of 0, which is one that
    nobody knows, how many are done a second; use as a context manager.

    On a terminal the line is redrawn at most ten times a second; elsewhere a line is printed at
    most every five seconds and at the end.
    """

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.done = label, total, 0
        self._tty = sys.stderr.isatty()
        self._resumed = 0
        self._start = self._shown = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._show(final=True)

    def resume_at(self, done: int) -> None:
        """Say that `done` of the total were done by an earlier run."""
        self.done = self._resumed = done

    def advance(self, count: int = 1, *, note: str = "") -> None:
        """Add `count` and show it if the last showing is old enough; `note` is appended."""
        self.done += count
        age = time.monotonic() - self._shown
        if age >= (0.1 if self._tty else _PLAIN_SECONDS):
            self._show(note=note)

    def _show(self, *, note: str = "", final: bool = False) -> None:
        self._shown = time.monotonic()
        spent = self._shown - self._start
        fresh = self.done - self._resumed
        if self.total:
            left = spent / fresh * (self.total - self.done) if fresh else 0.0
            when = f"{spent:.0f} s" if final else f"{left:.0f} s left"
            filled = 24 * self.done // self.total
            bar, count = "█" * filled + "·" * (24 - filled) + " ", f"{self.done}/{self.total}"
        else:
            when = f"{fresh / spent if spent else 0.0:,.0f} a second"
            bar, count = "", f"{self.done:,}"
        text = f"{self.label}: {count}, {when}{', ' + note if note else ''}"
        if self._tty:
            print(f"\r\033[K{bar}{text}", end="\n" if final else "", file=sys.stderr, flush=True)
        else:
            say(text)


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` while a `Progress` counts them."""
    count = total if total is not None else len(items) if isinstance(items, Sized) else 0
    with Progress(label, count) as progress:
        for item in items:
            yield item
            progress.advance()
