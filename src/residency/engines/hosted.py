"""An engine in a child process of its own: what can crash, crashes there.

The parent's side of `residency.engines.host`. What one engine has to itself is in its subclass.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import psutil

from residency import hardware
from residency.engines.base import EngineSpec
from residency.engines.client import EngineClient
from residency.engines.host import STOP_SECONDS
from residency.errors import EngineLoadError, EngineTimeout
from residency.types import to_dict

LOAD_SECONDS = 1200.0
"""Long: beside busy neighbours vLLM was seen to take 480 s where it takes 60 alone."""
LOG_LINES = 400
SPIN_COUNT = "1000"
"""Turns that GNU OpenMP's workers spin at a barrier before they sleep. With its default and as
many threads as cores, one busy neighbour takes decoding to a third of this (bench/engine.py)."""


class HostedEngine(ABC):
    """`residency.engines.base.Engine` in a child process. One thread starts it and asks of it.

    `name` is the engine's, `module` the one that hosts it, and `key_variable` the environment
    variable by which it learns the key that requests must carry.
    """

    name: str
    module: str
    key_variable: str

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.url = ""
        self.key = secrets.token_urlsafe(24)
        self._process: subprocess.Popen[bytes] | None = None
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._reader: threading.Thread | None = None
        self._peak = 0

    @abstractmethod
    def check(self) -> None:
        """Raise `EngineLoadError` or `MissingError` where a start would be in vain."""

    @abstractmethod
    def described(self) -> Mapping[str, Any]:
        """What the host is told beside the spec."""

    @abstractmethod
    def reason(self, log: Sequence[str]) -> str:
        """Why it failed, in the engine's own words; empty where the log does not say."""

    def client(self, timeout: float) -> EngineClient:
        """See `Engine.client`."""
        return EngineClient(self.url, self.key, timeout)

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """See `Engine.start`. Checks the model before it is loaded."""
        self.stop()
        self.check()
        self.url = ""
        self._log.clear()
        self._process = process = subprocess.Popen(
            # -P: the folder that the user stands in must not lend the child its modules.
            [sys.executable, "-P", "-m", self.module, "--spec", self._spec_json()],
            env=os.environ | {self.key_variable: self.key, "GOMP_SPINCOUNT": SPIN_COUNT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        self._reader = threading.Thread(target=self._read_log, args=(process,), daemon=True)
        self._reader.start()
        try:
            self._wait_until_ready(process)
        except BaseException:  # Ctrl-C too must not leave the child behind
            process.kill()
            self.stop()
            raise

    def _spec_json(self) -> str:
        threads = min(self.spec.threads or hardware.free_cores(), hardware.usable_cores())
        known = {"model": str(self.spec.model.resolve()), "threads": threads}
        return json.dumps({**to_dict(self.spec), **known, **self.described()})

    def _read_log(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr as log:
            for line in log:
                self._log.append(line.decode(errors="replace").rstrip())

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as out:
            if not select.select([out], [], [], LOAD_SECONDS)[0]:
                raise EngineTimeout(f"{self.spec.model}: not loaded after {LOAD_SECONDS:.0f} s")
            line = out.readline()
        answer: dict[str, str] = json.loads(line) if line else {}
        if "url" in answer:
            self.url = answer["url"]
            return
        code = process.wait()
        if self._reader:
            self._reader.join(STOP_SECONDS)
        reason = self.reason(self._log) or answer.get("error") or exit_words(code)
        crashed = "it may lack memory: give [engine] a smaller context or fewer slots"
        raise EngineLoadError(
            f"{self.spec.model}: {self.name} cannot load it: {reason}",
            hint=crashed if code < 0 else "",
        )

    def stop(self) -> None:
        """Close the child's standard input, which ends it; kill it when that takes too long.

        Another thread may call this to break off a `start`, which then raises `EngineLoadError`.
        """
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        if not self.url:
            process.kill()
        process.stdin.close()
        try:
            process.wait(STOP_SECONDS + 2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader:
            self._reader.join(STOP_SECONDS)

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def memory(self) -> int:
        try:
            return sum(process.memory_info().rss for process in self._family())
        except psutil.NoSuchProcess:  # it ended between the two looks
            return 0

    def peak_memory(self) -> int:
        """The kernel's own high-water mark where it keeps one (Linux), else the highest seen."""
        marks = [_high_water(process.pid) for process in self._family()]
        self._peak = max(self._peak, sum(marks), self.memory())
        return self._peak

    def _family(self) -> list[psutil.Process]:
        """The child and all that it started."""
        try:
            child = psutil.Process(self.pid) if self.alive() else None
            return [child, *child.children(recursive=True)] if child else []
        except psutil.NoSuchProcess:
            return []

    def last_words(self) -> str:
        if self._process is None or self.alive():
            return ""
        ended = exit_words(self._process.returncode)
        return f"{ended}; its log ends: {self._log[-1]}" if self._log else ended

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def compare_digest(spec: EngineSpec, found: str) -> None:
    """Raise `EngineLoadError` unless the model has the digest that `spec` names."""
    if found != spec.sha256:
        raise EngineLoadError(
            f"{spec.model}: its bytes have changed: SHA-256 is {found}, not {spec.sha256}",
            hint="restore the file, or make it again with: residency run",
        )


def exit_words(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"the engine ended with exit code {code}"
    return f"the engine was killed by {signal.Signals(-code).name}"


def _high_water(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    mark = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(mark[1]) * 1024 if mark else 0
