"""Which engine runs a release, and how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from residency import hardware
from residency.builds import read_build
from residency.config import EngineSettings, ServedModel
from residency.engines.base import Engine, EngineSpec
from residency.engines.choice import ENGINES, OF_FORMAT
from residency.export.onnx import FORMS
from residency.releases import made_beside, model_file
from residency.store import Store
from residency.types import Release

BESIDE = {"vllm": ("merged",), "onnx": tuple(FORMS)}
"""What an engine runs in place of a GGUF that was released: the first of them that was made."""
Launch = Callable[[ServedModel, Release, int], Engine]
"""Makes the engine, not yet started, that runs a release with so many slots."""


def launcher(store: Store, settings: EngineSettings) -> Launch:
    """How this workspace's releases are run.

    The threads are settled now: an engine that starts beside a busy one would find no core free,
    and stay slow. What it gives raises `InputError` and `StorageError` when the release's model is
    gone.
    """
    threads = settings.threads or hardware.free_cores()

    def launch(served: ServedModel, release: Release, slots: int) -> Engine:
        engine = engine_of(served, release)
        model, digest = _model(store, release, engine)
        spec = EngineSpec(
            model=model,
            alias=release.model,
            context=release.context,
            slots=slots,
            threads=threads,
            server=settings.server,
            sha256=digest,
        )
        return ENGINES[engine](spec)

    return launch


def engine_of(served: ServedModel, release: Release) -> str:
    """A build that is no GGUF runs on one engine only."""
    return served.engine if release.build.format == "gguf" else OF_FORMAT[release.build.format]


def _model(store: Store, release: Release, engine: str) -> tuple[Path, str]:
    """What the engine loads, and its digest."""
    if engine in BESIDE and release.build.format == "gguf":
        folder = made_beside(store, release, *BESIDE[engine]).path
        build = read_build(folder)
        return folder / build.file, build.digest
    return model_file(store, release), release.build.digest
