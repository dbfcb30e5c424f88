"""One small chain, run once with the real model, that the tests here look at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from residency.models.base import BaseModel

SETTINGS = """
name = "tiny-desk"
[data]
file = "desk.jsonl"
system = "Desk."
test = 0.2
validation = 0.15
[train]
epochs = 1
batch = 8
rank = 4
[export]
levels = ["Q8_0", "Q4_K_M"]
[gate]
different = 1.0
max_tokens = 12
[engine]
context = 512
slots = 1
"""
SUBJECTS = ["bill", "visit", "test", "form", "pill", "card", "room", "letter"]
WANTS = ["where is my", "please change my", "i lost the", "who signed my", "what about her"]


def rows() -> list[dict[str, str]]:
    return [
        {"prompt": f"{want} {subject}", "completion": json.dumps({"about": subject})}
        for subject in SUBJECTS
        for want in WANTS
    ]


def make_workspace(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "residency.toml").write_text(SETTINGS)
    text = "".join(json.dumps(row) + "\n" for row in rows())
    (folder / "desk.jsonl").write_text(text)
    return folder


def residency(*words: object, code: int = 0, **more) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would; its exit code must be `code`."""
    done = subprocess.run(
        [sys.executable, "-m", "residency", *map(str, words)],
        check=False,
        capture_output=True,
        text=True,
        timeout=3600,
        **more,
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def chain(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A workspace whose chain has run, and what `residency run --json` said."""
    folder = make_workspace(tmp_path_factory.mktemp("chain") / "desk")
    done = residency("run", "--workspace", folder, "--json")
    return folder, json.loads(done.stdout)
