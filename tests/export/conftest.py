"""What the export stage makes of the small specialist, made once for all tests here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from residency import fingerprint
from residency.builds import read_build
from residency.config import EngineSettings, ExportSettings
from residency.export import stage
from residency.gate.answers import Asked
from residency.gate.ask import Questions, ask
from residency.store import Store
from residency.types import Record
from tests.specialist import Specialist


@dataclass(frozen=True, kw_only=True)
class Exported:
    store: Store
    record: Record

    def folder(self, name: str) -> Path:
        return self.store.output(self.record, name).path


def export(workspace: Path, given: Specialist, settings: ExportSettings) -> Exported:
    store = Store(workspace)
    draft = store.open("export", "key", inputs={}, settings=settings.model_dump(), seed=0)
    inputs = stage.Inputs(dataset=given.dataset, trained=given.adapter, base=given.base)
    return Exported(store=store, record=stage.run(inputs, settings, draft))


def asked(folder: Path, given: Specialist, kept: Path) -> list[Asked]:
    """What the gate gets of a build, after it has checked the engine's fingerprint."""
    probes = fingerprint.probes(given.dataset.path)
    questions = Questions(file=kept, conversations=probes, max_tokens=8)
    engine = EngineSettings(context=512, slots=1)
    return ask(folder, read_build(folder), [questions], probes, engine)


@pytest.fixture(scope="session")
def exported(specialist: Specialist, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(tmp_path_factory.mktemp("exported"), specialist, ExportSettings())
