"""Which engine runs a release, and how."""

from __future__ import annotations

from collections.abc import Callable

from residency import hardware
from residency.config import EngineSettings, ServedModel
from residency.engines.base import Engine, EngineSpec
from residency.engines.llama_cpp import LlamaCpp
from residency.engines.vllm import Vllm
from residency.releases import merged_model, model_file
from residency.store import Store
from residency.types import Release

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
        merged = merged_model(store, release) if served.engine == "vllm" else None
        spec = EngineSpec(
            model=merged.path if merged else model_file(store, release),
            alias=release.model,
            context=release.context,
            slots=slots,
            threads=threads,
            server=settings.server,
            sha256=merged.digest if merged else release.build.digest,
        )
        return Vllm(spec) if merged else LlamaCpp(spec)

    return launch
