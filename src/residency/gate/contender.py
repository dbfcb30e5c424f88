"""Who can be compared: a build, through the engine that serves it, or an API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from residency.config import Endpoint, EngineSettings
from residency.gate.ask import Questions, ask
from residency.gate.baseline import Baseline, ask_api
from residency.store import sha256_text
from residency.types import Build, Conversation


class Contender(Protocol):
    """One of two that are compared; `size` in bytes is 0 where nobody tells it."""

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str:
        """What its answers depend on, as a digest."""

    @property
    def size(self) -> int: ...

    def ask(self, cases: Sequence[Conversation], limit: int, folder: Path) -> Baseline:
        """Its greedy answers of at most `limit` tokens, kept one by one in `folder`.

        Raises the `EngineError` tree, and `FingerprintError` for a build that has changed.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnBuild:
    """A build in its artifact's `folder`; `probes` are those of its fingerprint."""

    name: str
    folder: Path
    build: Build
    probes: Sequence[Conversation]
    engine: EngineSettings

    @property
    def identity(self) -> str:
        return self.build.digest

    @property
    def size(self) -> int:
        return self.build.size

    def ask(self, cases: Sequence[Conversation], limit: int, folder: Path) -> Baseline:
        """See `Contender.ask`."""
        file = folder / f"{self.identity[:16]}.jsonl"
        questions = Questions(file=file, conversations=cases, max_tokens=limit)
        asked = ask(self.folder, self.build, [questions], self.probes, self.engine)[0]
        return Baseline(answers=dict(enumerate(asked.answers)), asked=asked)


@dataclass(frozen=True, kw_only=True, slots=True)
class Api:
    """A model behind OpenAI's API. A case at which it fails is left out, with the reason."""

    endpoint: Endpoint

    @property
    def name(self) -> str:
        place = self.endpoint.url.partition("://")[2].rstrip("/")
        return f"{self.endpoint.model or 'the model'} at {place}"

    @property
    def identity(self) -> str:
        return sha256_text(self.endpoint.url + self.endpoint.model)

    @property
    def size(self) -> int:
        return 0

    def ask(self, cases: Sequence[Conversation], limit: int, folder: Path) -> Baseline:
        """See `Contender.ask`. Raises `EngineRejected` where our key or the model is refused."""
        return ask_api(self.endpoint, dict(enumerate(cases)), limit, folder)
