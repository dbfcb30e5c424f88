"""What RESIDENCY_HOME holds is whole or absent, and made once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from residency.errors import MissingError
from residency.models.cache import build_once, cached_digest, home
from residency.store import digest_tree


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESIDENCY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _write(draft: Path) -> None:
    (draft / "a.txt").write_text("a")


def test_home_is_the_environments_or_the_users(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home() == own_home
    monkeypatch.delenv("RESIDENCY_HOME")
    assert home() == Path.home() / ".cache" / "residency"


def test_a_folder_is_made_once(own_home: Path) -> None:
    calls = []

    def make(draft: Path) -> None:
        calls.append(draft)
        _write(draft)

    place = build_once(own_home / "x" / "one", make)
    assert build_once(own_home / "x" / "one", make) == place
    assert (place / "a.txt").read_text() == "a"
    assert len(calls) == 1


def test_a_failure_leaves_nothing(own_home: Path) -> None:
    def make(draft: Path) -> None:
        _write(draft)
        raise MissingError("no network")

    with pytest.raises(MissingError):
        build_once(own_home / "one", make)
    assert [p.name for p in own_home.iterdir() if p.is_dir()] == []


SLOW_MAKER = """
import sys, time
from pathlib import Path
from residency.models.cache import build_once
def make(draft):
    (draft / "a.txt").write_text("half")
    print("writing", flush=True)
    time.sleep(float(sys.argv[2]))
    (draft / "a.txt").write_text("whole")
build_once(Path(sys.argv[1]), make)
print("ready", flush=True)
"""


def _start(place: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW_MAKER, str(place), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_maker_leaves_no_half_folder(own_home: Path) -> None:
    place = own_home / "one"
    process = _start(place, 60)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not place.exists()
    build_once(place, _write)
    assert (place / "a.txt").read_text() == "a"
    assert [p for p in own_home.iterdir() if p.is_dir()] == [place]


def test_a_second_process_waits_for_the_first(own_home: Path) -> None:
    place = own_home / "one"
    first = _start(place, 1.0)
    assert first.stdout is not None
    assert first.stdout.readline() == "writing\n"
    second = _start(place, 1.0)
    assert second.communicate()[0] == "ready\n"  # it never wrote itself
    assert first.communicate()[0] == "ready\n"
    assert (place / "a.txt").read_text() == "whole"


def test_a_digest_is_kept_until_a_file_changes(own_home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a").write_text("1")
    digest = cached_digest(folder)
    assert digest == digest_tree(folder)
    [note] = (own_home / "digests").iterdir()
    note.write_text(note.read_text().replace(digest, "from the note"))
    assert cached_digest(folder) == "from the note"
    (folder / "a").write_text("2")
    os.utime(folder / "a", ns=(1, 1))
    assert cached_digest(folder) == digest_tree(folder) != digest


def test_a_damaged_note_is_written_again(own_home: Path, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("1")
    digest = cached_digest(file)
    [note] = (own_home / "digests").iterdir()
    note.write_text("{")
    assert cached_digest(file) == digest
