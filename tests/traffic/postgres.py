"""A PostgreSQL server for the tests: the one that RESIDENCY_TEST_POSTGRES names, or one of our own
in a temporary folder, where Debian's package is installed."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

VARIABLE = "RESIDENCY_TEST_POSTGRES"


@dataclass(frozen=True, kw_only=True)
class Server:
    """`address` has no query; `folder` is None for a server that is not ours."""

    address: str
    folder: Path | None

    def run(self, sql: str) -> None:
        import psycopg

        with psycopg.connect(self.address, autocommit=True) as db:
            db.execute(sql.encode())

    def schema(self, name: str) -> str:
        """The address of a new, empty schema."""
        self.run(f"DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}")
        mark = "&" if "?" in self.address else "?"
        return f"{self.address}{mark}options={quote(f'-csearch_path={name}')}"


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """Skips where there is none."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    if address := os.environ.get(VARIABLE):
        yield Server(address=address, folder=None)
        return
    debian = map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = shutil.which("initdb") or max(debian, default="")
    if not found:
        pytest.skip(f"no PostgreSQL: install Debian's postgresql, or set {VARIABLE}")
    folder = Path(tempfile.mkdtemp(prefix="residency-postgres-"))
    try:
        with _running(Path(found).resolve().parent, folder):
            where = quote(str(folder), safe="")
            yield Server(address=f"postgresql://postgres@{where}/postgres", folder=folder)
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _running(programs: Path, folder: Path) -> Iterator[None]:
    # PostgreSQL refuses to run as root.
    other: dict[str, Any] = {}
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        other = {"user": "postgres", "group": "postgres", "extra_groups": []}
    data = folder / "data"
    make = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"]
    subprocess.run([*make, "--locale=C"], check=True, capture_output=True, cwd="/", **other)
    run = [programs / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses="]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*run, "-c", "fsync=off", "-c", "log_statement=none"], stderr=log, cwd="/", **other
        )
    try:
        ready = [programs / "pg_isready", "-q", "-h", folder]
        while subprocess.run(ready, check=False).returncode:
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.02)
        yield
    finally:
        process.send_signal(signal.SIGINT)  # no waiting for clients
        process.wait()
