"""The whole chain on a machine without network, and what tries to reach out named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from residency.models.base import BaseModel
from tests.e2e.conftest import make_workspace

# Takes the network away but for loopback (man 7 netdevice: SIOCSIFFLAGS, IFF_UP), then runs a verb.
NETLESS = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    fcntl.ioctl(control, 0x8914, struct.pack("16sh14s", b"lo", 1, bytes(14)))
os.execv(sys.executable, [sys.executable, "-m", "residency", *sys.argv[1:]])
"""
# A library that calls home once the process is sealed, as telemetry would: from a thread.
PLANTED = """
import os, sys, threading, time, urllib.request

def call_home():
    while os.environ.get("RESIDENCY_SEALED") != "1":
        time.sleep(0.01)
    try:
        urllib.request.urlopen("http://192.0.2.1/", timeout=5)
        print("planted: got out", file=sys.stderr)
    except Exception as error:
        print(f"planted: {error}", file=sys.stderr)

if "residency" in " ".join(sys.orig_argv):
    threading.Thread(target=call_home, daemon=True).start()
"""


@pytest.fixture
def sealed(base: BaseModel, tmp_path: Path) -> Path:
    folder = make_workspace(tmp_path / "desk")
    settings = folder / "residency.toml"
    settings.write_text("sealed = true\n" + settings.read_text())
    return folder


def run(folder: Path, *verb: str, path: str = "") -> subprocess.CompletedProcess[str]:
    words = [*verb, "--workspace", str(folder)]
    return subprocess.run(
        ["unshare", "-rn", sys.executable, "-c", NETLESS, *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=1200,
        env=os.environ | {"PYTHONPATH": path},
    )


@pytest.mark.slow
def test_the_chain_needs_no_network_and_names_who_does(sealed: Path, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rn", "true"], check=False, capture_output=True).returncode:
        pytest.skip("unshare -rn: this kernel allows no network namespace of one's own")
    planted = tmp_path / "planted"
    planted.mkdir()
    (planted / "sitecustomize.py").write_text(PLANTED)
    done = run(sealed, "run", path=str(planted))
    assert done.returncode == 0, done.stderr
    assert "sitecustomize tried to reach 192.0.2.1:80" in done.stderr
    assert "planted: got out" not in done.stderr
    asked = run(sealed, "ask", "where is my bill")
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.strip()
