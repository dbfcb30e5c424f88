"""llama.cpp in a child process of its own: what can crash, crashes there."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import psutil

from residency import hardware, store
from residency.engines.base import EngineSpec
from residency.engines.llama_host import KEY_VARIABLE, STOP_SECONDS
from residency.errors import EngineLoadError, EngineTimeout, MissingError, ModelError
from residency.models.gguf_file import read_header
from residency.types import to_dict

LOAD_SECONDS = 600.0
LOG_LINES = 200
SPIN_COUNT = "1000"
"""Turns that GNU OpenMP's workers spin at a barrier before they sleep. With its default and as
many threads as cores, one busy neighbour takes decoding to a third of this (bench/engine.py)."""


class LlamaCpp:
    """`residency.engines.base.Engine` on llama.cpp. One thread starts it and asks of it."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.url = ""
        self.key = secrets.token_urlsafe(24)
        self._process: subprocess.Popen[bytes] | None = None
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._reader: threading.Thread | None = None
        self._peak = 0

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """See `Engine.start`. Checks the file's digest and header before it loads the model."""
        self.stop()
        check_model(self.spec)
        self.url = ""
        self._log.clear()
        self._process = process = subprocess.Popen(
            # -P: the folder that the user stands in must not lend the child its modules.
            [
                sys.executable,
                "-P",
                "-m",
                "residency.engines.llama_host",
                "--spec",
                self._spec_json(),
            ],
            env=os.environ | {KEY_VARIABLE: self.key, "GOMP_SPINCOUNT": SPIN_COUNT},
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
        spec = to_dict(self.spec)
        spec["model"] = str(self.spec.model.resolve())
        spec["server"] = native_server(self.spec.server)
        return json.dumps(spec | {"threads": threads})

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
        reason = reason_in(self._log) or answer.get("error") or exit_words(code)
        crashed = "it may lack memory: give [engine] a smaller context or fewer slots"
        raise EngineLoadError(
            f"{self.spec.model}: llama.cpp cannot load it: {reason}",
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
        return sum(process.memory_info().rss for process in self._family())

    def peak_memory(self) -> int:
        """The kernel's own high-water mark where it keeps one (Linux), else the highest seen."""
        marks = [_high_water(process.pid) for process in self._family()]
        self._peak = max(self._peak, sum(marks), self.memory())
        return self._peak

    def _family(self) -> list[psutil.Process]:
        """The child and, under a native server, its child."""
        try:
            child = psutil.Process(self.pid) if self.alive() else None
            return [child, *child.children()] if child else []
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


def check_model(spec: EngineSpec) -> None:
    """Raise `EngineLoadError` unless the model file is there, whole, and the one it should be.

    llama.cpp loads a file with flipped bytes and talks garbage; only the digest tells.
    """
    if not spec.model.is_file():
        raise EngineLoadError(f"{spec.model}: there is no such model file")
    try:
        read_header(spec.model)
    except ModelError as error:
        raise EngineLoadError(error.message, hint=error.hint) from error
    if spec.sha256 and (found := store.sha256_file(spec.model)) != spec.sha256:
        raise EngineLoadError(
            f"{spec.model}: its bytes have changed: SHA-256 is {found}, not {spec.sha256}",
            hint="restore the file, or make it again with: residency run",
        )


def native_server(name: str) -> str:
    """The path of the `llama-server` to run; empty for the one inside xllamacpp.

    `name` is a path or a name on PATH. Without one, a `llama-server` on PATH stands in where
    xllamacpp is not installed. Raises `MissingError`.
    """
    if not name and importlib.util.find_spec("xllamacpp"):
        return ""
    if found := shutil.which(name or "llama-server"):
        return str(Path(found).resolve())
    if name:
        raise MissingError(
            f"{name}: there is no such llama-server",
            hint="correct engine.server in residency.toml, or leave it empty",
        )
    raise MissingError(
        "no engine is installed", hint="install one with: pip install 'residency[engine]'"
    )


def reason_in(log: Sequence[str]) -> str:
    """Why llama.cpp failed, in its own words: the first error of its log; empty when none.

    The first error is the cause; the lines after it report it upwards. Lines look like
    `0.00.054.188 E llama_model_load: error loading model: unknown model architecture: 'x'`.
    """
    errors = [m[1] for line in log if (m := re.match(r"[\d.]+ E (.*)", line))]
    if not errors:
        return ""
    return re.sub(r"^(\w+ +)?\S+: +(error loading model: )?", "", errors[0])


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
