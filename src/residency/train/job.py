"""What is to be trained on what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from residency.config import TrainSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Folders and settings, so that any process can take it up.

    `base` is a Hugging Face folder, and so is `teacher`; `dataset` is the data stage's. `folder`
    holds the encoded rows, the checkpoints, and what comes out. `retry` counts the tries that broke
    before this one; each has checkpoints of its own.
    """

    base: Path
    dataset: Path
    settings: TrainSettings
    folder: Path
    teacher: Path | None = None
    retry: int = 0

    @property
    def rows(self) -> Path:
        return self.folder / "rows"

    @property
    def checkpoints(self) -> Path:
        return self.folder / (f"checkpoints-{self.retry}" if self.retry else "checkpoints")

    @property
    def diagnosis(self) -> Path:
        return self.folder / "diagnosis"

    @property
    def result(self) -> Path:
        return self.folder / "result"
