"""What an engine is: a process that runs one model and speaks OpenAI's API on loopback."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from residency.engines.client import EngineClient


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSpec:
    """What an engine is to run.

    `model` is a GGUF file or a folder of its shards, a Hugging Face folder for vLLM, or one of
    `residency.export.onnx`; `alias` is its name in answers; `context` is in tokens and is what each
    of the `slots` has for itself; `threads` 0 means the cores that are free at start; `server` is
    the path of a native `llama-server`, empty for the one inside the package; `sha256` is the
    digest that the model must have (`store.digest_of`), empty when it is not checked. `lora` are
    adapters as GGUF, which llama.cpp numbers from 0 and lays over the model at scale 1. A request's
    `lora` changes that; then every later one must have it too, as without it llama.cpp clears no
    cached prompt.
    """

    model: Path
    alias: str
    context: int = 2048
    slots: int = 4
    threads: int = 0
    server: str = ""
    sha256: str = ""
    lora: tuple[Path, ...] = ()


class Engine(Protocol):
    """A running model. `start` and `stop` block; all else returns at once."""

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, without a path; another port after each start."""

    @property
    def key(self) -> str:
        """The bearer key that every request must carry."""

    @property
    def pid(self) -> int:
        """The engine's process; 0 when there is none."""

    def start(self) -> None:
        """Load the model and return when it answers.

        Raises `EngineLoadError` with the engine's own reason, `EngineTimeout`, or `MissingError`.
        """

    def client(self, timeout: float) -> EngineClient:
        """A client of the engine as it runs now; `timeout` in seconds for one whole request."""

    def stop(self) -> None:
        """End the process; nothing happens when there is none."""

    def alive(self) -> bool:
        """Whether the process runs. It says nothing about its health."""

    def memory(self) -> int:
        """Resident memory in bytes, the mapped weights included; 0 when not running."""

    def peak_memory(self) -> int:
        """The highest resident memory so far, in bytes."""

    def last_words(self) -> str:
        """How the process ended and what its log said of it; empty while it runs."""

    def __enter__(self) -> Self:
        """Start."""

    def __exit__(self, *exc: object) -> None:
        """Stop."""
