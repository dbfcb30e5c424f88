"""A price table, facts that the tests vary, and the cases of `cases/`, each decided once."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from residency.decide import answers, prices
from residency.decide.decision import Decision, decide
from residency.decide.facts import Facts, Load
from residency.decide.prices import Prices

CASES = Path(__file__).parent / "cases"


@pytest.fixture(scope="session")
def table() -> Prices:
    return prices.load()


@pytest.fixture(scope="session")
def case(table: Prices) -> Callable[[str], tuple[Facts, Decision]]:
    @cache
    def decided(name: str) -> tuple[Facts, Decision]:
        facts = answers.facts(answers.load(CASES / f"{name}.toml"))
        return facts, decide(facts, table)

    return decided


@pytest.fixture
def facts() -> Facts:
    load = Load(
        name="sort",
        task="classification",
        calls=500_000,
        prompt_tokens=400,
        completion_tokens=10,
        cost=9000.0,
        p95=1.5,
        alike=0.8,
        examples=900,
    )
    return Facts(loads=(load,), api_model="gpt-4o")
