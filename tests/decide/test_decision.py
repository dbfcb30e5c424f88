import dataclasses
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.decide import grounds, rules
from residency.decide.decision import decide
from residency.decide.facts import Facts, Load
from residency.decide.prices import Prices
from residency.errors import InputError


def load(facts: Facts, **changes: object) -> Facts:
    return replace(facts, loads=(dataclasses.replace(facts.loads[0], **changes),))  # type: ignore[arg-type]


def test_a_change_that_is_named_does_change_the_decision(facts: Facts, table: Prices) -> None:
    decision = decide(facts, table)
    assert decision.verdict == "slm"
    flips = {flip.fact: flip.verdict for flip in decision.flips}
    assert flips["team hours"] == decide(replace(facts, team_hours=0.0), table).verdict == "api"
    assert flips["examples"] == decide(load(facts, examples=30), table).verdict == "unknown"


def test_too_little_memory_for_the_first_size_means_to_distil(facts: Facts, table: Prices) -> None:
    small = replace(facts, memory=0.7e9)
    decision = decide(small, table)
    assert decision.path == "distil"
    assert decision.billions < table.sizes.classification
    assert sum(part.size for part in decision.memory) <= 0.7e9


def test_billions_of_tokens_of_an_own_notation_mean_from_scratch(
    facts: Facts, table: Prices
) -> None:
    assert decide(replace(facts, notation=True, corpus=5e9), table).path == "from scratch"


def test_without_the_hardest_task_it_pays(facts: Facts, table: Prices) -> None:
    """The long answers need a large model, which their small bill does not carry."""
    hard = Load(
        name="plan",
        task="reasoning",
        calls=3_000_000,
        prompt_tokens=3000,
        completion_tokens=1500,
        cost=200.0,
        examples=9000,
    )
    decision = decide(replace(facts, loads=(*facts.loads, hard)), table)
    assert decision.verdict == "hybrid"
    verdicts = {one.name: one.verdict for one in decision.categories}
    assert verdicts == {"sort": "slm", "plan": "api"}
    assert decision.results == ("not enough volume",)
    assert all(sum(rule.decided for rule in one.fired) == 1 for one in decision.categories)


@pytest.mark.parametrize(
    ("machine", "peak", "runtime", "engine"),
    [
        ("cpu-16", 5000.0, "any", "llama.cpp"),
        ("a100", 5000.0, "any", "vLLM"),
        ("a100", 500.0, "any", "llama.cpp"),
        ("a100", 5000.0, "dotnet", "ONNX Runtime"),
    ],
)
def test_engine(
    facts: Facts, table: Prices, machine: str, peak: float, runtime: str, engine: str
) -> None:
    asked = replace(facts, may_leave=False, machine=machine, peak=peak, runtime=runtime)  # type: ignore[arg-type]
    assert decide(asked, table).engine == engine


def test_an_unknown_api_is_an_error_where_the_bill_is_not_given(
    facts: Facts, table: Prices
) -> None:
    with pytest.raises(InputError, match="unknown API model"):
        decide(replace(load(facts, cost=None), api_model="no-such-model"), table)


@settings(max_examples=200)
@given(
    reached=st.none() | st.floats(0, 1),
    quality=st.none() | st.floats(0, 1),
    latency=st.none() | st.floats(0.1, 10),
    examples=st.integers(0, 20_000),
    team_hours=st.none() | st.floats(0, 100),
    cost=st.floats(0, 1e5),
    notation=st.booleans(),
)
def test_data_that_may_not_leave_never_goes_to_the_api(table: Prices, **values: object) -> None:
    one = Load(
        name="x",
        task="questions",
        calls=1000,
        prompt_tokens=100,
        completion_tokens=50,
        cost=values.pop("cost"),  # type: ignore[arg-type]
        examples=values.pop("examples"),  # type: ignore[arg-type]
    )
    facts = Facts(loads=(one,), api_model="gpt-4o", may_leave=False, **values)  # type: ignore[arg-type]
    fired = rules.fired("category", grounds.category(one, facts, table))
    assert fired[0].gives in ("slm", "unknown")
