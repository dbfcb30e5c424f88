"""What users get wrong, each with its message, hint and exit code; no traceback anywhere."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from residency.models.base import BaseModel
from tests.e2e.conftest import make_workspace, residency


@pytest.fixture
def workspace(tmp_path: Path, base: BaseModel) -> Path:
    return make_workspace(tmp_path / "desk")


def refused(*words: object, code: int = 3, **more) -> str:
    done = residency(*words, code=code, **more)
    assert done.stderr.count("error: ") == 1
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def with_data(workspace: Path, data: bytes) -> str:
    (workspace / "desk.jsonl").write_bytes(data)
    return refused("run", "data", "--workspace", workspace)


ROW = b'{"prompt": "where is my bill", "completion": "bill"}\n'


def test_unknown_setting(workspace: Path) -> None:
    path = workspace / "residency.toml"
    path.write_text(path.read_text().replace("rank = 4", "rnak = 4"))
    said = refused("run", "--workspace", workspace)
    assert "train.rnak" in said
    assert "did you mean rank?" in said


def test_wrong_type(workspace: Path) -> None:
    path = workspace / "residency.toml"
    path.write_text(path.read_text().replace("rank = 4", 'rank = "four"'))
    assert "train.rank" in refused("run", "--workspace", workspace)


def test_errors_are_json_too(workspace: Path) -> None:
    (workspace / "desk.jsonl").unlink()
    done = residency("run", "--workspace", workspace, "--json", code=3)
    said = json.loads(done.stdout)
    assert said["exit_code"] == 3
    assert "desk.jsonl" in said["error"]


def test_missing_file(workspace: Path) -> None:
    (workspace / "desk.jsonl").unlink()
    assert "desk.jsonl" in refused("run", "--workspace", workspace)


def test_no_workspace(tmp_path: Path) -> None:
    assert "residency init" in refused("run", "--workspace", tmp_path)


def test_not_utf8(workspace: Path) -> None:
    said = with_data(workspace, ROW + b'{"prompt": "caf\xe9", "completion": "x"}\n')
    assert "UTF-8" in said
    assert "desk.jsonl:2" in said


def test_broken_json(workspace: Path) -> None:
    assert "desk.jsonl:3" in with_data(workspace, ROW * 2 + b'{"prompt": \n')


def test_empty_answer(workspace: Path) -> None:
    said = with_data(workspace, ROW + b'{"prompt": "hello", "completion": " "}\n')
    assert "desk.jsonl:2" in said


def test_one_row(workspace: Path) -> None:
    with_data(workspace, ROW)


def test_duplicates_only(workspace: Path) -> None:
    with_data(workspace, ROW * 50)


def test_base_without_tokenizer(workspace: Path, base: BaseModel) -> None:
    shutil.copytree(base.path, workspace / "bare", ignore=shutil.ignore_patterns("token*"))
    path = workspace / "residency.toml"
    path.write_text(path.read_text() + '[model]\nbase = "bare"\n')
    assert "tokenizer" in refused("run", "--workspace", workspace)


def test_truncated_gguf(workspace: Path, base_gguf: Path) -> None:
    with base_gguf.open("rb") as whole:
        (workspace / "cut.gguf").write_bytes(whole.read(30_000_000))
    path = workspace / "residency.toml"
    path.write_text(path.read_text() + '[model]\nbase = "cut.gguf"\n')
    assert "cut.gguf" in refused("run", "--workspace", workspace)


def test_port_in_use(chain) -> None:
    folder, _ = chain
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "in use" in refused("serve", "--port", port, "--workspace", folder)


def test_serve_without_a_release(workspace: Path) -> None:
    assert "residency run" in refused("serve", "--workspace", workspace)


def run_data_after(mount: str, workspace: Path) -> str:
    """What `run data` says after `mount`, made in a namespace of its own; it must end with 3."""
    words = [sys.executable, "-m", "residency", "run", "data", "--workspace", str(workspace)]
    isolated = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "-m"]
    done = subprocess.run(
        [*isolated, "sh", "-c", f"{mount} && exec " + " ".join(words)],
        check=False,
        capture_output=True,
        text=True,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this machine allows no mount of one's own")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_no_disk_space(workspace: Path) -> None:
    """On a file system of 64 KB."""
    target = workspace / ".residency"
    target.mkdir()
    big = b"".join(
        json.dumps({"prompt": random.Random(i).randbytes(200).hex(), "completion": "a"}).encode()
        + b"\n"
        for i in range(300)
    )
    (workspace / "desk.jsonl").write_bytes(big)
    said = run_data_after(f"mount -t tmpfs -o size=64k tmpfs {target}", workspace)
    assert "no space left" in said


def test_read_only_workspace(workspace: Path) -> None:
    mount = f"mount --bind {workspace} {workspace} && mount -o remount,ro,bind {workspace}"
    assert "cannot be written" in run_data_after(mount, workspace)


def test_ctrl_c(workspace: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "residency", "run", "--workspace", str(workspace)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("train:"):
            break
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == 130, rest
    assert "interrupted" in rest
    assert "Traceback" not in rest


# A verb that is interrupted while it defines a dataclass, which Python does by an exec of text.
INTERRUPTED = """
import residency.verbs
from residency.cli import main
from residency.cli.verb import verb

residency.verbs.__path__.append(".")
verb("dig", "digging.now", "Dig.")
main(["dig"])
"""


def test_ctrl_c_in_the_middle_of_a_definition(tmp_path: Path) -> None:
    (tmp_path / "dig.py").write_text(INTERRUPTED)
    (tmp_path / "digging.py").write_text(
        "def now(workspace):\n    exec('raise KeyboardInterrupt')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "dig"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stderr
