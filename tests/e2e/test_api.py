"""The gate with a live API that is down at first."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import residency
from tests.gate.test_baseline import served


@pytest.mark.slow
def test_an_api_that_was_down_is_asked_again_and_the_builds_are_not(chain, tmp_path: Path) -> None:
    folder = tmp_path / "desk"
    shutil.copytree(chain[0], folder)
    up = False
    with served(lambda n: (200 if up or n == 0 else 500, "{}")) as (api, asked):
        with (folder / "residency.toml").open("a") as settings:
            settings.write(f'[gate.api]\nurl = "{api.url}"\nmodel = "m"\ntimeout = 5.0\n')
        command = ("gate", "--workspace", folder, "--json")
        first = json.loads(residency(*command).stdout)
        assert len(asked) == 1 + 3
        assert "status 500" in row(first)["reason"] and row(first)["rates"]["exact"]["n"] == 1
        up = True
        done = residency(*command)
        assert len(asked) == 1 + 3 + 7
        assert row(json.loads(done.stdout))["rates"]["exact"]["n"] == 8
        for name in ("base-f16", "f16", "Q8_0", "Q4_K_M"):
            assert f"{name} was asked before" in done.stderr
        assert "gate: unchanged" in residency(*command).stderr
    assert len(asked) == 1 + 3 + 7


def row(said: dict) -> dict:
    rows = said["stages"][-1]["figures"]["rows"]
    (found,) = [one for one in rows if one["build"] == "api"]
    return found
