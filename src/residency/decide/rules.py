"""The rules of a decision as data (`rules.toml`), and the small language of their conditions."""

from __future__ import annotations

import operator
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from residency.config import Section
from residency.errors import SettingsError
from residency.strict import strict

Stage = Literal["category", "plan", "path", "engine", "note"]
Value = bool | float | str | None

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_CENTS = 100  # money from here on is shown without them
_COMPARISON = re.compile(r"(.+?)\s*(<=|>=|==|!=|<|>)\s*(.+)")


class Rule(Section):
    """One rule; `rules.toml` says what its fields are."""

    id: str
    stage: Stage
    when: str
    gives: str = ""
    result: str = ""
    reason: str
    source: str


class Rules(Section):
    rule: list[Rule]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fired:
    """A rule that held, with its reason filled in; `decided` where it was the first to give."""

    id: str
    stage: Stage
    gives: str
    result: str
    reason: str
    source: str
    decided: bool


def amount(value: float) -> str:
    """Money for people: without cents where there is much of it."""
    return f"{value:,.0f}" if abs(value) >= _CENTS else f"{value:,.2f}"


class _Words(string.Formatter):
    """`{bill:money}` in a reason is an `amount`."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        if format_spec == "money":
            return amount(value)
        return super().format_field(value, format_spec)


@cache
def load() -> tuple[Rule, ...]:
    """The rules that come with Residency, in their order of precedence."""
    text = (files("residency.decide") / "rules.toml").read_text(encoding="utf-8")
    return tuple(strict(Rules, text, "rules.toml").rule)


def fired(stage: Stage, facts: Mapping[str, Value]) -> tuple[Fired, ...]:
    """The rules of `stage` that hold for `facts`, in their order; the first one decides."""
    held: list[Rule] = []
    for rule in (one for one in load() if one.stage == stage):
        if not held if rule.when == "otherwise" else holds(rule.when, facts):
            held.append(rule)
    return tuple(
        Fired(
            id=rule.id,
            stage=stage,
            gives=rule.gives,
            result=rule.result,
            reason=_Words().vformat(rule.reason, (), facts),
            source=rule.source,
            decided=place == 0 and bool(rule.gives),
        )
        for place, rule in enumerate(held)
    )


def holds(condition: str, facts: Mapping[str, Value]) -> bool:
    """Whether every comparison of `condition` is true.

    One that involves an unknown (None) is not. Raises `SettingsError` for a name that is no fact.
    """
    return all(_holds(part.strip(), facts) for part in condition.split(" and "))


def _holds(part: str, facts: Mapping[str, Value]) -> bool:
    if match := _COMPARISON.fullmatch(part):
        left, right = _value(match[1], facts), _value(match[3], facts)
        known = left is not None and right is not None
        return known and _COMPARISONS[match[2]](left, right)
    if part.startswith("not "):
        return not _value(part[4:], facts)
    return bool(_value(part, facts))


def _value(word: str, facts: Mapping[str, Value]) -> Value:
    if word in facts:
        return facts[word]
    if word[0] == word[-1] == "'":
        return word[1:-1]
    try:
        return float(word)
    except ValueError:
        known = ", ".join(sorted(facts))
        raise SettingsError(f"rules.toml: {word} is no fact", hint=f"known: {known}") from None
