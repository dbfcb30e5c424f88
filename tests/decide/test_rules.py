import dataclasses
import string
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.decide import grounds, rules
from residency.decide.facts import Facts
from residency.decide.money import forecast
from residency.decide.prices import Prices
from residency.errors import SettingsError

KNOWN: Mapping[str, rules.Value] = {"a": 1.0, "b": 2.0, "word": "x", "yes": True, "none": None}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("a < b", True),
        ("a >= b", False),
        ("b == 2", True),
        ("b <= 1.5", False),
        ("word == 'x'", True),
        ("word != 'x'", False),
        ("yes", True),
        ("not yes", False),
        ("not none", True),
        ("a < none", False),
        ("a >= none", False),
        ("yes and a < b and word == 'x'", True),
        ("yes and a > b", False),
    ],
)
def test_conditions(condition: str, expected: bool) -> None:
    assert rules.holds(condition, KNOWN) is expected


def test_a_name_that_is_no_fact_is_an_error() -> None:
    with pytest.raises(SettingsError, match="cost is no fact"):
        rules.holds("cost < 3", KNOWN)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_a_comparison_or_its_opposite_holds(one: float, other: float) -> None:
    values = {"one": one, "other": other}
    assert rules.holds("one < other", values) != rules.holds("one >= other", values)


def test_every_rule_is_written_in_known_facts(facts: Facts, table: Prices) -> None:
    """Nothing but what the stage's facts have, in the conditions and in the reasons."""
    category = grounds.category(facts.loads[0], facts, table)
    plan = grounds.plan(forecast(facts, facts.loads, table, 0.5), facts.loads, facts, table)
    for rule in rules.load():
        known = category if rule.stage == "category" else plan
        if rule.when != "otherwise":
            for part in rule.when.split(" and "):
                rules.holds(part, known)
        names = {name for _, name, _, _ in string.Formatter().parse(rule.reason) if name}
        assert names <= set(known), rule.id


def test_rules_are_told_apart_and_all_but_notes_give_something() -> None:
    every = rules.load()
    assert len({rule.id for rule in every}) == len(every)
    assert all(bool(rule.gives) == (rule.stage != "note") for rule in every)


def test_every_stage_that_must_decide_ends_in_otherwise() -> None:
    last = {rule.stage: rule.when for rule in rules.load()}
    assert {s: w for s, w in last.items() if s != "note"} == dict.fromkeys(
        ("category", "plan", "path", "engine"), "otherwise"
    )


def test_the_first_that_holds_decides_and_the_others_are_named(facts: Facts, table: Prices) -> None:
    stuck = dataclasses.replace(facts, quality=0.95, reached=0.8, may_leave=False)
    fired = rules.fired("category", grounds.category(facts.loads[0], stuck, table))
    assert [(f.id, f.decided) for f in fired] == [
        ("quality-at-home", True),
        ("quality-not-reached", False),
        ("data-must-stay", False),
    ]
    assert "80% of cases and 95% are asked" in fired[0].reason
