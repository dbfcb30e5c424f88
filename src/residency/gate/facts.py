"""What a text states beside its wording: numbers, names, negation, sides taken, and refusals.

The words by which it is read stand in language.toml, for English and for Chinese.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from residency.refusals import any_of, refuses

_HAN_DIGITS = {digit: value for value, digit in enumerate("零一二三四五六七八九")} | {"两": 2}
_HAN_TENS = {"十": 10, "百": 100, "千": 1000}
_SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9, "万": 1e4, "亿": 1e8}
_NUMBER = re.compile(
    rf"(?<![A-Za-z\d.])(\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|\d+(?:\.\d+)?)\s*({'|'.join(_SCALES)})?",
    re.IGNORECASE,
)
_CLOCK = re.compile(
    r"(下午|晚上|上午|早上)?(?<!\d)(\d{1,2})"
    r"(?::(\d\d)(?!\d)|点(?:(半)|(\d\d)分?)?|(?=\s*[ap]\.?m\b))(?:\s*([ap])\.?m\b\.?)?",
    re.IGNORECASE,
)
_NAME = re.compile(
    r"(?:(?<=[a-z,;] )|(?<=Dr\. )|(?<=M[rs] )|(?<=M[rs]\. ))(?!Dr\b|Mrs?\b|Ms\b)[A-Z][\w&-]*"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What one text states. `sides` holds (group, member) of the opposites that it names."""

    numbers: frozenset[float]
    names: frozenset[str]
    sides: frozenset[tuple[int, int]]
    negations: int
    refuses: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Language:
    negation: re.Pattern[str]
    no_negation: re.Pattern[str]
    opposites: tuple[tuple[re.Pattern[str], ...], ...]
    title: re.Pattern[str]
    number: re.Pattern[str]
    numbers: Mapping[str, int]
    counted: re.Pattern[str]


def facts(text: str) -> Facts:
    """The facts of `text`. Times of the day are hours: 2:30 pm, 14:30 and 下午两点半 are 14.5."""
    said = _language()
    plain = unicodedata.normalize("NFKC", text).replace("\u2019", "'")
    digits = said.counted.sub(lambda found: str(_han(found[0])), plain)
    digits = said.number.sub(lambda found: str(said.numbers[found[0].lower()]), digits)
    clocks = [_hours(found) for found in _CLOCK.finditer(digits)]
    timeless = _CLOCK.sub(" ", digits)
    numbers = [_value(found) for found in _NUMBER.finditer(timeless)]
    sides = {
        (group, side)
        for group, patterns in enumerate(said.opposites)
        for side, pattern in enumerate(patterns)
        if pattern.search(timeless)
    }
    names = {name.casefold() for name in _NAME.findall(plain)}
    return Facts(
        numbers=frozenset([*clocks, *numbers]),
        names=frozenset(names | set(said.title.findall(plain))),
        sides=frozenset(sides),
        negations=len(said.negation.findall(said.no_negation.sub(" ", plain))),
        refuses=refuses(plain),
    )


def exclude(one: Facts, other: Facts) -> bool:
    """Whether each of two texts takes a side that the other does not, in one group of opposites."""
    return any(
        group == against and (against, side) not in one.sides
        for group, _ in one.sides - other.sides
        for against, side in other.sides
    )


@cache
def _language() -> _Language:
    data = resources.files("residency.gate").joinpath("language.toml").read_text(encoding="utf-8")
    words = tomllib.loads(data)
    numerals = "".join([*_HAN_DIGITS, *_HAN_TENS])
    return _Language(
        negation=any_of(words["negation"]),
        no_negation=any_of(words["no_negation"]),
        opposites=tuple(tuple(any_of(side) for side in group) for group in words["opposites"]),
        title=re.compile(f"([{words['surnames']}])(?:{words['titles']})"),
        number=any_of([*words["numbers"]]),
        numbers=words["numbers"],
        # One alone is left out: it is mostly an article or a part of another word.
        counted=re.compile(
            rf"(?!百分之|一[^{numerals}])[{numerals}]+(?=[{words['measures']}]|分钟)"
        ),
    )


def _han(numerals: str) -> int:
    total = digit = 0
    for char in numerals:
        if char in _HAN_TENS:
            total += (digit or 1) * _HAN_TENS[char]
            digit = 0
        else:
            digit = _HAN_DIGITS[char]
    return total + digit


def _hours(found: re.Match[str]) -> float:
    part, hour, minutes, half, han_minutes, half_day = found.groups()
    late = part in ("下午", "晚上") or (half_day or "").lower() == "p"
    passed = 30 if half else int(minutes or han_minutes or 0)
    return int(hour) + 12 * (late and int(hour) < 12) + passed / 60


def _value(found: re.Match[str]) -> float:
    return float(found[1].replace(",", "")) * _SCALES.get((found[2] or "").lower(), 1.0)
