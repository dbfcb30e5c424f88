"""`residency compare` as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.conftest import SETTINGS, residency
from tests.fakes.engine import FakeEngine


def test_builds_releases_and_endpoints(chain) -> None:
    folder, _ = chain
    at = ("--workspace", folder, "--json")
    done = subprocess.run(
        [sys.executable, "-m", "residency", "compare", "f16", "Q4_K_M", *map(str, at)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert done.returncode == (2 if said["worse"] else 0), done.stderr
    assert [one["name"] for one in said["sides"]] == ["f16", "Q4_K_M"]
    assert said["cases"] == len(said["each"]) == 8
    assert all(one["speed"]["memory"] > 50e6 for one in said["sides"])
    assert "Q4_K_M" in Path(said["page"]).read_text(encoding="utf-8")
    assert not list((folder / ".residency" / "work").glob("compare-*"))

    engine = FakeEngine()
    engine.start()
    try:
        names = ("current", f"{engine.url}/v1", "--model", "echo", "--key-variable", "FAKE_KEY")
        env = os.environ | {"FAKE_KEY": engine.key}
        said = json.loads(residency("compare", *names, *at, env=env).stdout)
    finally:
        engine.stop()
    assert said["sides"][1]["name"].startswith("echo at 127.0.0.1:")
    assert said["sides"][1]["rates"]["valid_json"]["value"] == 0.0

    told = json.loads(residency("compare", "f16", "Q5_K_M", *at, code=3).stdout)
    assert "nothing is called Q5_K_M" in told["error"] and "Q4_K_M" in told["hint"]


@pytest.mark.slow
def test_a_kill_keeps_what_was_answered(tmp_path: Path) -> None:
    (tmp_path / "residency.toml").write_text(SETTINGS)
    rows = [{"prompt": f"one two three four {n}", "completion": str(n)} for n in range(12)]
    cases = tmp_path / "cases.jsonl"
    cases.write_text("".join(json.dumps(row) + "\n" for row in rows))
    engine = FakeEngine()
    engine.start()
    try:
        url = f"{engine.url}/v1"
        words = ["compare", url, url, "--model", "echo", "--model", "slow", "--file", str(cases)]
        words += ["--key-variable", "FAKE_KEY", "--workspace", str(tmp_path), "--json"]
        env = os.environ | {"FAKE_KEY": engine.key}
        process = subprocess.Popen(
            [sys.executable, "-m", "residency", *words],
            env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while _asked(engine) < 12 + 4:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        said = json.loads(residency(*words, env=env).stdout)
        assert said["cases"] == 12 and said["different"]["value"] == 0.0
        assert 24 <= _asked(engine) <= 26  # the one that was under way is asked anew
    finally:
        engine.stop()
    assert [one["name"].partition(" ")[0] for one in said["sides"]] == ["echo", "slow"]
    assert said["slower"]["low"] > 1


def _asked(engine: FakeEngine) -> int:
    request = urllib.request.Request(
        f"{engine.url}/fake/state", headers={"Authorization": f"Bearer {engine.key}"}
    )
    with urllib.request.urlopen(request) as response:
        return len(json.load(response)["asked"])
