"""Builds: the names of the two that are always made, and what stands beside a model file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from residency.config import ExportSettings
from residency.store import read_as, sha256_file, write_atomic
from residency.types import Build, Level, to_json

BASE = "base-f16"
"""The base model, which the gate compares with."""
F16 = "f16"
"""The specialist at full precision."""
IMATRIX = "-imatrix"
"""How the name of a build with an importance matrix ends, where there is one without as well."""
EXACT = ("bf16", "Q8_0")
"""Levels whose rounding asks for no importance."""
MODEL_FILE = "model.gguf"
CARD = "README.md"
TRAINING = "training.json"
SUMS = "SHA256SUMS"
SIGNATURE = "model.sig"
NOT_SUMMED = (SUMS, SIGNATURE)


def quantized(settings: ExportSettings) -> dict[str, tuple[Level, bool]]:
    """The builds of llama.cpp's levels: by name the level, and whether the importance matrix is
    used."""
    made: dict[str, tuple[Level, bool]] = {}
    for level in settings.levels:
        spares = bool(settings.imatrix) and level not in EXACT
        if not spares or settings.imatrix == "both":
            made[level] = (level, False)
        if spares:
            made[level + IMATRIX * (settings.imatrix == "both")] = (level, True)
    return made


def read_build(folder: Path) -> Build:
    """The `build.json` of a build's folder. Raises `StorageError` where it is damaged."""
    return read_as(Build, folder / "build.json", hint="run: residency run")


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How an adapter or a model was trained: the method, and the same in words with its figures."""

    method: str
    words: str


def write_training(folder: Path, training: Training) -> None:
    """Put `training.json` beside the weights that a training left in `folder`."""
    write_atomic(folder / TRAINING, to_json(training, indent=1) + "\n")


def read_training(folder: Path) -> Training:
    """How what is in `folder` was trained. Raises `StorageError` where that is not told."""
    return read_as(Training, folder / TRAINING, hint="run: residency run train")


def write_sums(folder: Path) -> None:
    """Put the SHA-256 of every file below `folder` into its `SHA256SUMS`, as sha256sum writes it.

    What `NOT_SUMMED` names is left out: it is made from the sums.
    """
    lines = [f"{sha256_file(path)}  {name}\n" for name, path in sorted(_summed(folder).items())]
    write_atomic(folder / SUMS, "".join(lines))


def changed_since_sums(folder: Path) -> list[str]:
    """The files that are not as `SHA256SUMS` has them: changed, missing, or not named there."""
    text = (folder / SUMS).read_text(encoding="utf-8")
    sums = {line[66:]: line[:64] for line in text.splitlines()}
    here = _summed(folder)
    same = {name for name in sums.keys() & here.keys() if sha256_file(here[name]) == sums[name]}
    return sorted((sums.keys() | here.keys()) - same)


def _summed(folder: Path) -> dict[str, Path]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {n: path for n, path in found.items() if path.is_file() and n not in NOT_SUMMED}
