"""The real base model, fetched once into RESIDENCY_HOME and shared by all tests."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
from hypothesis import settings

from residency.config import DEFAULT_BASE
from residency.models import carried
from residency.models.base import BaseModel, resolve
from tests import specialist as small

# Made once in a process, and dear: all tests that use one of them run in the same process.
DEAR = ("chain", "exported")


# Before the hook of pytest-xdist that reads these marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What pytest-xdist keeps together: a file, and all that share a dear fixture."""
    for item in items:
        used = getattr(item, "fixturenames", ())
        group = next((name for name in DEAR if name in used), item.location[0])
        item.add_marker(pytest.mark.xdist_group(group))


# The machines that run this are shared: how long an example takes says nothing.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
# What runs in the background ignores Ctrl-C, and so would what tests start to break it off.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def base() -> BaseModel:
    """SmolLM2-135M-Instruct as a Hugging Face folder."""
    return resolve(DEFAULT_BASE)


@pytest.fixture(scope="session")
def base_gguf() -> Path:
    """SmolLM2-135M-Instruct as its package carries it: a Q4_1 GGUF of 98 MB."""
    return carried.gguf(DEFAULT_BASE)


@pytest.fixture(scope="session")
def specialist(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> small.Specialist:
    """A small base model with an adapter and a data set, for what comes after training."""
    return small.make(tmp_path_factory.mktemp("specialist"), base.path)


@pytest.fixture(scope="session")
def outside() -> str:
    """An address of this machine that isn't loopback: it stands for the world outside."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing, chooses a source address
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])
