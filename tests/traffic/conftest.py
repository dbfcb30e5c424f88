"""A traffic store of one's own: on SQLite, and where that makes no difference on PostgreSQL too."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from residency.traffic.store import TrafficStore
from tests.traffic import postgres

_numbers = itertools.count()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traffic.db"


@pytest.fixture
def store(path: Path) -> Iterator[TrafficStore]:
    store = TrafficStore(path)
    yield store
    store.close()


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    with postgres.server() as one:
        yield one


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, path: Path) -> Path | str:
    """An empty place for a store, on each engine."""
    if request.param == "sqlite":
        return path
    server: postgres.Server = request.getfixturevalue("server")
    return server.schema(f"test_{next(_numbers)}")


@pytest.fixture
def opened(where: Path | str) -> Iterator[Callable[[], TrafficStore]]:
    """Opens the store at `where`, as often as it is called."""
    stores: list[TrafficStore] = []

    def another() -> TrafficStore:
        stores.append(TrafficStore(where))
        return stores[-1]

    yield another
    for one in stores:
        one.close()


@pytest.fixture
def either(opened: Callable[[], TrafficStore]) -> TrafficStore:
    """A store, on each engine."""
    return opened()
