from __future__ import annotations

import pytest

from residency.explain.explanation import Explanation, explain
from residency.explain.model import Opened
from residency.models.base import BaseModel
from tests.explain import shapes


@pytest.fixture(scope="session")
def llama(base: BaseModel) -> Opened:
    """A tiny random Llama with SmolLM2's tokenizer."""
    return shapes.opened("llama", base.path)


@pytest.fixture(scope="session")
def explained(llama: Opened) -> Explanation:
    return explain(llama, shapes.TEXT)
