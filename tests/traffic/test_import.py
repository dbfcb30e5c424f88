"""`residency traffic import` and `erase`, on each engine, down to the bytes on the disk."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from residency import audit
from residency.cli import main
from residency.traffic.store import TrafficStore
from residency.traffic.writer import Recorder
from residency.types import to_json
from tests.traffic.exchanges import exchange

PLANTED = ("ada.planted@example.com", "4111 1111 1111 1111", "+44 20 7946 0958")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".residency" / "traffic.db"


@pytest.fixture
def workspace(tmp_path: Path, where: Path | str) -> Path:
    store = where if isinstance(where, str) else ""
    toml = f'name = "desk"\n[data]\nfile = "x.jsonl"\n[traffic]\nstore = "{store}"\n'
    (tmp_path / "residency.toml").write_text(toml)
    return tmp_path


def log(workspace: Path, *lines: str) -> Path:
    path = workspace / "log.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def verb(workspace: Path, *words: object, code: int = 0) -> dict[str, Any]:
    line = ["traffic", str(words[0]), "--json", "--workspace", str(workspace), *map(str, words[1:])]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == code, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_in_and_out_again(workspace: Path, where: Path | str) -> None:
    path = log(workspace, to_json(exchange(1, subject="bob")), "{bad", to_json(exchange(2)))
    first = verb(workspace, "import", path)
    assert {k: first[k] for k in ("added", "known", "rejected")} == {
        "added": 2,
        "known": 0,
        "rejected": 1,
    }
    assert first["bad_lines"][0].startswith(f"{path}:2: ")
    again = verb(workspace, "import", path)
    assert (again["added"], again["known"]) == (0, 2)
    assert verb(workspace, "erase", "bob") == {"erased": 1, "rows": 0, "removed": []}
    store = TrafficStore(where)
    assert [one.id for one in store.between(0, 1e12)] == [exchange(2).id]
    store.close()
    entries = audit.read(workspace)
    assert [e.act for e in entries] == ["traffic imported"] * 2 + ["traffic erased"]
    assert entries[0].details == {
        "files": ["log.jsonl"],
        "added": 2,
        "known": 0,
        "rejected": 1,
        "personal": "mask",
    }


def test_what_is_masked_reaches_no_disk(workspace: Path, where: Path | str, tmp_path: Path) -> None:
    text = f"I am {PLANTED[0]}, card {PLANTED[1]}, phone {PLANTED[2]}"
    many = (
        exchange(n, f"{text} and {n}", subject=PLANTED[0], key=PLANTED[0], error=text)
        for n in range(1200)
    )
    path = log(workspace, *map(to_json, many))
    open_still = TrafficStore(where)  # so that SQLite's log stays
    verb(workspace, "import", path)
    folders = [workspace / ".residency"]
    if isinstance(where, str):
        folders = [folder] if (folder := _server_folder(where)) else []
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    found = b"".join(file.read_bytes() for file in files)
    assert not folders or b"[EMAIL_1]" in found
    assert not [one for one in PLANTED if one.encode() in found]
    open_still.close()


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
def test_a_batch_of_two_files(workspace: Path, path: Path) -> None:
    asked = {"model": "m", "messages": [{"role": "user", "content": f"for {PLANTED[0]}"}]}
    answer = {"choices": [{"message": {"role": "assistant", "content": "done"}}]}
    files = workspace / "output.jsonl", workspace / "input.jsonl"
    results = [
        {"id": f"r{n}", "custom_id": str(n), "response": {"status_code": 200, "body": answer}}
        for n in range(3)
    ]
    requests = [{"custom_id": str(n), "body": asked} for n in range(2)]
    for file, lines in zip(files, (results, requests), strict=True):
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    first = verb(workspace, "import", *files)
    assert (first["added"], first["halves"]) == (2, {"requests": 0, "results": 1})
    assert verb(workspace, "import", *reversed(files))["known"] == 2
    with contextlib.closing(TrafficStore(path)) as store:
        said = [one.request["messages"][0]["content"] for one in store.between(0, 1e12)]
    assert said == ["for [EMAIL_1]"] * 2
    words = ["traffic", "import", "--workspace", str(workspace), *map(str, files)]
    assert "1 results without their request" in CliRunner().invoke(main, words).stdout


def _server_folder(address: str) -> Path | None:
    from psycopg.conninfo import conninfo_to_dict

    host = Path(str(conninfo_to_dict(address)["host"]))
    return host if host.is_absolute() and host.name.startswith("residency-postgres-") else None


def test_too_many_bad_lines_are_a_failure(workspace: Path) -> None:
    toml = workspace / "residency.toml"
    toml.write_text(toml.read_text() + "rejects = 25\n")
    path = log(workspace, to_json(exchange(1)), *["{bad"] * 40)
    answer = verb(workspace, "import", path, code=3)
    assert (answer["added"], answer["rejected"]) == (1, 26)


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
def test_a_missing_file_and_a_bad_map_are_told_before_anything_is_read(workspace: Path) -> None:
    path = log(workspace, to_json(exchange(1)))
    answer = verb(workspace, "import", path, workspace / "none.jsonl", code=3)
    assert "none.jsonl: there is no such file" in answer["error"]
    assert "--map prompt" in verb(workspace, "import", path, "--map", "prompt", code=3)["error"]
    assert not (workspace / ".residency").exists()


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
def test_an_old_log_outlives_the_start_of_the_gateway(workspace: Path, path: Path) -> None:
    verb(workspace, "import", log(workspace, to_json(exchange(1, time=1_000_000_000.0))))
    Recorder(TrafficStore(path), mode="masked", retention_days=1).close()
    assert _count(path) == 1


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
def test_ctrl_c_keeps_what_was_stored(workspace: Path, path: Path) -> None:
    log_file = log(workspace, *(to_json(exchange(n, "x " * 2000)) for n in range(20_000)))
    words = ["-m", "residency", "traffic", "import", "--workspace", str(workspace), str(log_file)]
    process = subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True)
    while not _count(path):
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in said
    (entry,) = audit.read(workspace)
    kept = _count(path)
    assert kept < 20_000
    assert kept - 2000 <= entry.details["added"] <= kept  # a batch may be in and not counted yet


def _count(path: Path) -> int:
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            return int(db.execute("SELECT COUNT(*) FROM exchanges").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
