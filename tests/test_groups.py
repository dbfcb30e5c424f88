"""Tests in several processes: what is dear is made in one of them only."""

import pytest


@pytest.mark.skipif("not config.getoption('loadgroup', False)", reason="all tests in one process")
def test_every_test_has_its_group(request: pytest.FixtureRequest) -> None:
    """pytest-xdist tells its groups by what it adds to the name of a test."""
    names = [item.nodeid for item in request.session.items]
    assert [name for name in names if "@" not in name] == []
    groups = {name.rpartition("@")[2] for name in names if "tests/e2e/test_chain.py::" in name}
    assert "chain" in groups or not groups
