"""The calls of OpenAI's Batch API, whose requests and results stand in files of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from residency.errors import DataError
from residency.traffic.logs.formats import recognise
from residency.traffic.logs.lines import Found, Rejected
from residency.traffic.logs.values import decoded, text

ROOM = 200 << 20
"""Bytes of halves that wait for the other one; a batch's input file has at most so many."""
_EACH = 300  # bytes that one takes beside its own
_RESULT, _REQUEST = {"response", "error"}, {"body", "request"}


class Halves:
    """Puts requests and results together by their `custom_id`, whichever comes first.

    That is unique in its batch only: where two requests or two results wait that differ, nobody
    knows which belong together, and those that follow are bad lines.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[bool, bytes]] = {}
        self._mixed: set[str] = set()
        self._size = 0

    @property
    def left(self) -> tuple[int, int]:
        """How many requests wait for their result, and results for their request."""
        results = sum(is_result for is_result, _ in self._waiting.values())
        return len(self._waiting) - results, results

    def joined(self, found: list[Found]) -> Iterator[Found]:
        """`found` with whole calls in place of their second halves, and without other halves.

        Raises `DataError` where more than `ROOM` bytes wait.
        """
        for one in found:
            if isinstance(one, Rejected) or one[1] is not None or b'"custom_id"' not in one[2]:
                yield one
            else:
                yield from self._one(one[0], one[2])

    def _one(self, line: int, raw: bytes) -> Iterator[Found]:
        value = _batch(raw)
        is_result = not _RESULT.isdisjoint(value)
        if is_result != _REQUEST.isdisjoint(value):
            yield line, None, raw  # whole, or something else
            return
        name = text(value["custom_id"])
        if name not in self._mixed:
            was_result, other = self._waiting.pop(name, (is_result, raw))
            self._size -= 0 if other is raw else len(other) + _EACH
            if was_result != is_result:
                # Its result names it, so that it is known again.
                yield line, {**value, **_batch(other)}, raw if is_result else other
                return
            if raw == other:
                self._wait(name, is_result, raw)
                return
            self._mixed.add(name)
        yield Rejected(line, "custom_id of several batches: import them one after the other")

    def _wait(self, name: str, is_result: bool, raw: bytes) -> None:
        self._waiting[name] = is_result, raw
        self._size += len(raw) + _EACH
        if self._size > ROOM:
            raise DataError(
                f"{len(self._waiting):,} lines of batches wait for their other half",
                hint="import one batch at a time: its input, output and error files",
            )


def _batch(raw: bytes) -> dict[str, Any]:
    """A line of a batch, empty for any other."""
    try:
        value = decoded(raw)
    except ValueError:
        return {}
    return value if isinstance(value, dict) and recognise(value) == "batch" else {}
