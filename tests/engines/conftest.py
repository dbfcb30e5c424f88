"""One real engine for the tests that only ask it, and the fake engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from residency.engines.base import EngineSpec
from residency.engines.llama_cpp import LlamaCpp
from tests.fakes.engine import FakeEngine


@pytest.fixture(scope="session")
def spec(base_gguf: Path) -> EngineSpec:
    return EngineSpec(model=base_gguf, alias="base", context=512, slots=2)


@pytest.fixture(scope="session")
def engine(spec: EngineSpec) -> Iterator[LlamaCpp]:
    with LlamaCpp(spec) as running:
        yield running


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    with FakeEngine() as running:
        yield running
