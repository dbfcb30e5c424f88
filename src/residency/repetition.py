"""Whether a text has begun to repeat itself, told while it is being written.

A loop is a tail that repeats one unit without a change, or with one number that counts up ("1. x
2. x 3. x"). It works on characters, so it needs no spaces between words. What is an alarm depends
on what is repeated: a refrain, a ruled line and a matrix of zeros repeat too, for a while.

The thresholds were set on tests/serve/legitimate.py; bench/guards.py measures them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Kind = Literal["token", "phrase", "paragraph"]

LONGEST_UNIT = 1500
PARAGRAPH = 200
LEAST_REPEATS = 3
PROSE, CODE = 260, 1000
"""How much of it is a loop, in bytes beyond `LEAST_REPEATS` units. Code, tables and figures repeat
more than prose does; a byte measures better than a character how much a text says: a Chinese
character has three, and says as much as three letters."""
COUNTING = 3
"""By how much more there must be where a number counts up: lists do that as well."""
_STEP = 32
_PROBE = 24
_CANDIDATES = 6
_WINDOW = LEAST_REPEATS * LONGEST_UNIT + COUNTING * CODE + LONGEST_UNIT
_CODE_MARK = re.compile(r"[<>{}\[\]=|\\_]")
_NUMBER = re.compile(r"\d+")
_DIGITS = "0123456789"
_DIGITS_A_NUMBER = 4  # at most, on average; longer ones are rarely counted
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\d_\u3040-\u30ff\u3400-\u9fff]+")
_SENTENCE_END = re.compile(r"(?:[.!?]\s|[。！？\n])\s*")
_SPACE = re.compile(r"\s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Loop:
    """What a text repeats. `start` is the character at which the first repeat begins: what stands
    before it holds the unit once. `repeats` counts whole units from there."""

    kind: Kind
    start: int
    unit: str
    repeats: int


class Detector:
    """Reads one text, piece by piece."""

    def __init__(self) -> None:
        self._new: list[str] = []
        self._fresh = 0
        self._length = 0
        self._text = ""
        self._shape = ""

    def feed(self, piece: str) -> Loop | None:
        """The loop that the text has come to with `piece`; it is looked for every 32 characters."""
        self._new.append(piece)
        self._fresh += len(piece)
        if self._fresh < _STEP:
            return None
        new, self._new, self._fresh = "".join(self._new), [], 0
        self._length += len(new)
        self._text = (self._text + new)[-_WINDOW:]
        return self._exact() or self._counting(new)

    def _exact(self) -> Loop | None:
        text = self._text
        for period in _periods(text):
            if _repeats(text, period, LEAST_REPEATS * period) and _repeats(
                text, period, _needed(text[-period:], 1)
            ):
                return self._loop(_beginning(text, period), period)
        return None

    def _counting(self, new: str) -> Loop | None:
        """A loop of the text's shape, where each number is one 0, if just one number counts up."""
        if self._shape.endswith("0"):
            new = new.lstrip(_DIGITS)
        shape = self._shape = (self._shape + _NUMBER.sub("0", new))[-_WINDOW:]
        if shape.endswith("0"):  # the number may go on
            return None
        for period in _periods(shape):
            unit = shape[-period:]
            if "0" not in unit or not _repeats(shape, period, LEAST_REPEATS * period):
                continue
            span = _needed(unit, COUNTING) if self._counts_up(unit, 2 * period) else 0
            if span and _repeats(shape, period, span) and self._counts_up(unit, span):
                return self._loop(*self._unshaped(_beginning(shape, period), period))
            break  # a multiple of this period counts in larger steps
        return None

    def _counts_up(self, unit: str, span: int) -> bool:
        """Whether one of the unit's numbers grows by one each time in the last `span` characters of
        the shape, and the others stay."""
        width = unit.count("0")
        tail = self._text[-span * _DIGITS_A_NUMBER :]
        numbers = _NUMBER.findall(tail)[-(span // len(unit)) * width :]
        columns = [[int(number[-9:]) for number in numbers[n::width]] for n in range(width)]
        steps = [{b - a for a, b in pairwise(column)} for column in columns]
        return steps.count({1}) == 1 and steps.count({0}) == width - 1

    def _unshaped(self, begin: int, period: int) -> tuple[int, int]:
        """Where in the text the place `begin` of its shape is, and how long a unit is there."""
        marks = re.findall(r"\d+|\D", self._text)[begin - len(self._shape) :]
        return len(self._text) - len("".join(marks)), len("".join(marks[:period]))

    def _loop(self, begin: int, period: int) -> Loop:
        """The loop whose first unit is at `begin` of the window."""
        text = self._text
        start = _rounded_off(text, begin + period, period)
        unit = text[start : start + period]
        return Loop(
            kind=_kind(unit),
            start=self._length - len(text) + start,
            unit=unit,
            repeats=(len(text) - start) // period,
        )


def repeats(text: str) -> bool:
    """Whether `text`, which is whole, comes to repeat itself."""
    detector = Detector()
    pieces = (text[start : start + _STEP] for start in range(0, len(text), _STEP))
    return any(detector.feed(piece) for piece in pieces)


def _periods(text: str) -> Iterator[int]:
    """Distances at which the last characters of `text` stood before, the nearest first."""
    if len(text) < 2 * _PROBE:
        return
    probe, place = text[-_PROBE:], len(text) - _PROBE
    lowest = max(0, place - LONGEST_UNIT)
    for _ in range(_CANDIDATES):
        found = text.rfind(probe, lowest, place + _PROBE - 1)
        if found < 0:
            return
        yield len(text) - _PROBE - found
        place = found


def _needed(unit: str, factor: int) -> int:
    """How many characters of a loop of `unit` make an alarm."""
    size, least = len(unit), CODE
    if _is_prose(unit):
        size, least = len(unit.encode("utf-8", "surrogatepass")), PROSE
    elif size == 1:
        least = PROSE
    return math.ceil((LEAST_REPEATS * size + factor * least) * len(unit) / size)


def _is_prose(unit: str) -> bool:
    """Whether it is mostly letters, with hardly a mark of code."""
    written = "".join(unit.split())
    letters, marks = sum(map(str.isalpha, written)), len(_CODE_MARK.findall(written))
    return letters >= 0.6 * len(written) > 0 and marks <= 0.03 * len(written)


def _repeats(text: str, period: int, span: int) -> bool:
    """Whether the last `span` characters repeat after `period`."""
    return span <= len(text) and text[-span:-period] == text[period - span :]


def _beginning(text: str, period: int) -> int:
    """Where the loop at the end of `text` begins."""
    place = len(text) - period
    while place and text[place - 1] == text[place - 1 + period]:
        place -= 1
    return place


def _rounded_off(text: str, start: int, period: int) -> int:
    """The end of the first sentence, line or word within a unit of `start`, so that what is kept
    does not end in the middle of one."""
    for end in (_SENTENCE_END, _SPACE):
        for found in end.finditer(text, max(0, start - 4), start + period):
            if found.end() >= start:
                return found.end()
    return start


def _kind(unit: str) -> Kind:
    if len(unit) >= PARAGRAPH:
        return "paragraph"
    return "token" if len(_WORD.findall(unit)) <= 1 else "phrase"
