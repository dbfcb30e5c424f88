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


@dataclass(kw_only=True)
class Server:
    """`address` has no query; `folder` is None for a server that is not ours."""

    address: str
    folder: Path | None = None
    programs: Path = Path()
    process: subprocess.Popen[bytes] | None = None

    def run(self, sql: str) -> None:
        import psycopg

        with psycopg.connect(self.address, autocommit=True) as db:
            db.execute(sql.encode())

    def schema(self, name: str) -> str:
        """The address of a new, empty schema."""
        self.run(f"DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}")
        mark = "&" if "?" in self.address else "?"
        return f"{self.address}{mark}options={quote(f'-csearch_path={name}')}"

    def start(self) -> None:
        """Run a server of our own, and wait until it takes connections."""
        assert self.folder
        run = [self.programs / "postgres", "-D", self.folder / "data", "-k", self.folder]
        run += ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "log_statement=none"]
        log = self.folder / "log"
        with log.open("ab") as file:
            self.process = subprocess.Popen(run, stderr=file, cwd="/", **_another(self.folder))
        ready = [self.programs / "pg_isready", "-q", "-h", self.folder]
        while subprocess.run(ready, check=False).returncode:
            assert self.process.poll() is None, log.read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """End it without waiting for its clients."""
        if self.process:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """Skips where there is none."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    if address := os.environ.get(VARIABLE):
        yield Server(address=address)
        return
    with own_server() as one:
        yield one


@contextlib.contextmanager
def own_server() -> Iterator[Server]:
    """One that a test may stop. Skips where it cannot be had."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    debian = map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = shutil.which("initdb") or max(debian, default="")
    if not found:
        pytest.skip(f"no PostgreSQL: install Debian's postgresql, or set {VARIABLE}")
    folder = Path(tempfile.mkdtemp(prefix="residency-postgres-"))
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    where = quote(str(folder), safe="")
    one = Server(
        address=f"postgresql://postgres@{where}/postgres",
        folder=folder,
        programs=Path(found).resolve().parent,
    )
    make = [one.programs / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust"]
    make += ["-E", "UTF8", "-N", "--locale=C"]
    try:
        subprocess.run(make, check=True, capture_output=True, cwd="/", **_another(folder))
        one.start()
        yield one
    finally:
        one.stop()
        shutil.rmtree(folder)


def _another(folder: Path) -> dict[str, Any]:
    """The owner of `folder` as the user to run as: PostgreSQL refuses to be root."""
    owner = folder.stat()
    return (
        {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if not os.getuid() else {}
    )
