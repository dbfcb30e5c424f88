"""The fake engine as an `Engine`: for tests of what starts, watches and asks one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Self

import psutil

from residency.engines.client import EngineClient
from residency.engines.hosted import exit_words
from residency.errors import EngineLoadError

ROOT = Path(__file__).parents[2]


class FakeEngine:
    """Runs `tests.fakes.openai_engine` in a child process; `fails` starts end in a load error.
    `host` is where it listens."""

    def __init__(self, behaviour: str = "echo", *, fails: int = 0, host: str = "127.0.0.1") -> None:
        self.behaviour = behaviour
        self.fails = fails
        self.host = host
        self.starts = 0
        self.url = ""
        self.key = "fake-key"
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def start(self) -> None:
        self.stop()
        self.starts += 1
        if self.starts <= self.fails:
            raise EngineLoadError("fake.gguf: cannot be loaded")
        command = [sys.executable, "-m", "tests.fakes.openai_engine"]
        command += ["--host", self.host, "--key", self.key, "--behaviour", self.behaviour]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stdout is not None
        self.url = f"http://{self.host}:{int(self._process.stdout.readline())}"

    def client(self, timeout: float) -> EngineClient:
        return EngineClient(self.url, self.key, timeout)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def memory(self) -> int:
        return int(psutil.Process(self.pid).memory_info().rss) if self.alive() else 0

    def peak_memory(self) -> int:
        return self.memory()

    def last_words(self) -> str:
        code = self._process.poll() if self._process else None
        return "" if code is None else exit_words(code)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
