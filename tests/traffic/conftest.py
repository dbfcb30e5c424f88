"""A traffic store of one's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from residency.traffic.store import TrafficStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traffic.db"


@pytest.fixture
def store(path: Path) -> Iterator[TrafficStore]:
    store = TrafficStore(path)
    yield store
    store.close()
