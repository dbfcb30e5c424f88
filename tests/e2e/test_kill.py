"""kill -9 at any moment, then run again: the digests of an undisturbed run, nothing half done."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from residency.store import Store, digest_tree
from tests.e2e.conftest import make_workspace, residency

KILLS = 20


def digests(said: dict) -> list[dict]:
    return [stage["outputs"] for stage in said["stages"]]


@pytest.mark.slow
def test_twenty_kills(chain, tmp_path: Path) -> None:
    _, undisturbed = chain
    whole = sum(stage["seconds"] for stage in undisturbed["stages"])
    folder = make_workspace(tmp_path / "desk")
    dice = random.Random(20)
    for _ in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-m", "residency", "run", "--workspace", str(folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(dice.uniform(0.3, max(4.0, whole / 3)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert_nothing_half_done(folder)
    said = json.loads(residency("run", "--workspace", folder, "--json").stdout)
    assert digests(said) == digests(undisturbed)


def assert_nothing_half_done(folder: Path) -> None:
    store = Store(folder)
    for record in store.records():
        for name in record.outputs:
            artifact = store.output(record, name)
            assert digest_tree(artifact.path) == artifact.digest
