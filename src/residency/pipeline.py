"""The stages in a row: each is run only if its inputs, settings or code changed."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residency import hardware, releases
from residency.builds import BASE, F16, quantized, read_build
from residency.config import Settings
from residency.conversations import FROM_TRAFFIC, read_conversations
from residency.errors import DataError
from residency.progress import say
from residency.sealed import seal
from residency.store import (
    VOLATILE,
    Draft,
    Store,
    code_digest,
    sha256_file,
    sha256_text,
    stage_key,
    storage_errors,
    write_atomic,
)
from residency.types import Artifact, Conversation, Rate, Record, Release, Verdict, to_json

if TYPE_CHECKING:
    from residency.gate.answers import Answer
    from residency.gate.baseline import Baseline
    from residency.models.base import BaseModel

STAGES = ("data", "train", "export", "gate")
# What a stage's result depends on beside its own package. Pages and verbs are not among it.
_BELOW = {
    "label": "data types",
    "data": "models conversations types",
    "train": "models conversations types fingerprint general refusals repetition words",
    "export": "models conversations types fingerprint engines",
    "gate": "models conversations types fingerprint engines general refusals words",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A finished stage, and whether its work had been done before."""

    stage: str
    record: Record
    cached: bool


class Chain:
    """The stages of one workspace, as far as they have been asked for."""

    def __init__(self, workspace: Path, settings: Settings) -> None:
        self.workspace = workspace
        self.settings = settings
        self.store = Store(workspace)
        self.outcomes: list[Outcome] = []
        if settings.sealed:
            seal()

    def run(self, last: str = STAGES[-1]) -> list[Outcome]:
        """Run the stages up to `last`, and release what the gate lets out."""
        if last != "data":
            from residency.train.contradictions import check_all

            check_all(self.settings)
        hardware.calm_openmp()
        with self.store.writing():
            for stage in STAGES[: STAGES.index(last) + 1]:
                getattr(self, f"_{stage}")()
        return self.outcomes

    def done(self, stage: str) -> Record:
        """The record of a stage that this chain has run or found."""
        return next(o.record for o in self.outcomes if o.stage == stage)

    def label(self) -> Outcome:
        """Have the teacher answer what has no answer, and nothing else."""
        with self.store.writing():
            self._label(self._data_file())
        return self.outcomes[-1]

    def _data_file(self) -> Path:
        file = (self.workspace / self.settings.data.file).resolve()
        if not file.is_file():
            raise DataError(
                f"{file}: there is no such file",
                hint="data.file in residency.toml is relative to the workspace",
            )
        return file

    def _label(self, file: Path) -> Artifact:
        """The rows of `file` with the answers that it lacks."""
        from residency.data import label

        teacher = self.settings.train.teacher
        label.check(teacher, sealed=self.settings.sealed)
        assert teacher is not None
        kept = self.store.root / "teacher.jsonl"

        def work(out: Draft) -> Record:
            given = label.Inputs(file=file, journal=kept)
            return label.run(given, teacher, self.settings.data, out)

        # Neither how fast it is asked nor for how much changes an answer.
        section = teacher.model_dump(exclude={"budget", "concurrency", "timeout", "key_variable"})
        section["map"] = self.settings.data.map
        self._step("label", {"file": sha256_file(file)}, section, 0, work)
        return self.store.output(self.done("label"), "labelled")

    def _data(self) -> None:
        file = self._data_file()
        base = self.base()
        labelled = None
        if self.settings.train.method == "distill" and self.settings.train.teacher:
            labelled = self._label(file)
            (file,) = labelled.path.iterdir()
        inputs = {"file": sha256_file(file), "base": base.digest}
        if labelled:
            inputs["labelled"] = labelled.digest
        more = self.workspace / FROM_TRAFFIC
        if more.is_file():
            inputs["traffic"] = sha256_file(more)

        def work(out: Draft) -> Record:
            from residency.data import stage

            given = stage.Inputs(file=file, base=base, added=more if more.is_file() else None)
            return stage.run(given, self.settings.data, out)

        section = self.settings.data.model_dump()
        self._step("data", inputs, section, self.settings.data.seed, work)

    def _train(self) -> None:
        from residency.gate import stage as gate

        dataset, base = self._dataset(), self.base()
        gate.check(dataset.path, self.settings.gate)
        inputs = {"dataset": dataset.digest, "base": base.digest}
        teacher, corpus = self._teacher(), self._corpus()
        if teacher:
            inputs["teacher"] = teacher.digest
        if corpus:
            inputs["corpus"] = sha256_file(corpus)

        def work(out: Draft) -> Record:
            from residency.train import stage

            given = stage.Inputs(dataset=dataset, base=base, teacher=teacher, corpus=corpus)
            return stage.run(given, self.settings.train, out)

        # The teacher's answers are in the data set, however they were asked for.
        section = self.settings.train.model_dump(exclude={"teacher"})
        self._step("train", inputs, section, self.settings.train.seed, work)
        self._show_training()

    def _show_training(self) -> None:
        """Put the page of how training went where a person looks for it."""
        from residency.train import page

        record = self.done("train")
        found = page.read(self.store.output(record, "diagnosis").path)
        names = {"name": self.settings.name, "base": self.base_name}
        write_atomic(self.training_page, page.render(found, record.figures, names))

    @property
    def training_page(self) -> Path:
        return self.workspace / "reports" / "training.html"

    def _export(self) -> None:
        dataset, base = self._dataset(), self.base()
        trained = self.trained()
        inputs = {"dataset": dataset.digest, trained.kind: trained.digest, "base": base.digest}

        def work(out: Draft) -> Record:
            from residency.export import stage

            given = stage.Inputs(dataset=dataset, trained=trained, base=base)
            return stage.run(given, self.settings.export, out)

        section = self.settings.export.model_dump(exclude={"signing_key"})
        self._step("export", inputs, section, 0, work)

    def _gate(self) -> None:
        dataset = self._dataset()
        builds = self.builds()
        api = self._api_answers(dataset)
        inputs = {"dataset": dataset.digest, **{n: b.digest for n, b in builds.items()}}
        if api.answers or api.failures:
            # Not why it failed: the words differ each time.
            inputs["api"] = sha256_text(to_json([api.answers, sorted(api.failures)]))
        scorer = self.workspace / self.settings.gate.scorer.rpartition(":")[0]
        if scorer.is_file():
            inputs["scorer"] = sha256_file(scorer)

        def work(out: Draft) -> Record:
            from residency.gate import stage

            given = stage.Inputs(
                dataset=dataset,
                builds=builds,
                name=self.settings.name,
                base=self.base_name,
                engine=self.settings.engine,
                workspace=self.workspace,
                api=api,
            )
            return stage.run(given, self.settings.gate, out)

        section = {
            "name": self.settings.name,
            **self.settings.gate.model_dump(),
            "engine": self.settings.engine.model_dump(),
        }
        self._step("gate", inputs, section, 0, work)
        self._publish()
        self._release(builds)

    def _step(
        self,
        stage: str,
        inputs: Mapping[str, str],
        settings: Mapping[str, Any],
        seed: int,
        work: Callable[[Draft], Record],
    ) -> None:
        code = code_digest(stage, *_BELOW[stage].split())
        key = stage_key(stage, inputs, settings, code)
        record = self.store.find(stage, key)
        cached = record is not None
        if record is None:
            say(f"{stage}:")
            draft = self.store.open(stage, key, inputs=inputs, settings=settings, seed=seed)
            with storage_errors(draft.path), _full_disk_errors(draft.path):
                record = work(draft)
        say(f"{stage}: {'unchanged' if cached else f'done in {record.seconds:.0f} s'}")
        self.outcomes.append(Outcome(stage=stage, record=record, cached=cached))

    def base(self) -> BaseModel:
        """The base model: a path is looked for in the workspace first."""
        from residency.models.base import from_nothing

        if self.settings.train.method == "scratch":
            return from_nothing()
        return self._resolved(self.settings.model.base)

    @property
    def base_name(self) -> str:
        """What the base model is called, where there is one."""
        scratch = self.settings.train.method == "scratch"
        return "none (from scratch)" if scratch else self.settings.model.base

    def _teacher(self) -> BaseModel | None:
        """The model whose probabilities are learnt."""
        name = self.settings.train.teacher_model
        return self._resolved(name) if name else None

    def _resolved(self, name: str) -> BaseModel:
        from residency.models.base import resolve

        return resolve(name, self.workspace)

    def _corpus(self) -> Path | None:
        name = self.settings.train.corpus
        if not name:
            return None
        path = (self.workspace / name).resolve()
        if not path.is_file():
            raise DataError(f"{path}: there is no such file", hint="see [train] corpus")
        return path

    def _dataset(self) -> Artifact:
        return self.store.output(self.done("data"), "dataset")

    def trained(self) -> Artifact:
        """What training left: an adapter, or a whole model."""
        record = self.done("train")
        return self.store.output(record, "adapter" if "adapter" in record.outputs else "model")

    def builds(self) -> dict[str, Artifact]:
        """The builds that the export stage left, the base model's first."""
        record = self.done("export")
        export = self.settings.export
        # An adapter says what f16 says, and by itself is no model.
        others = [form for form in export.also if form != "lora"]
        found = {
            name: self.store.output(record, name)
            for name in (BASE, F16, *quantized(export), *others)
            if name in record.outputs
        }
        return {name: one for name, one in found.items() if one.kind == "build"}

    def _api_answers(self, dataset: Artifact) -> Baseline:
        """The API's answers to the test split: those that were recorded, and the live ones, which
        are kept. Where it failed it is asked again in each run."""
        from residency.gate import baseline, stage

        settings = self.settings.gate
        cases = read_conversations(dataset.path / "test.jsonl")
        limit = stage.max_tokens(dataset.path, settings)
        kept = self.store.root / "api-answers" / f"{dataset.digest[:16]}-{limit}"
        return baseline.gather(self._recorded(cases), settings.api, cases, limit, kept)

    def _recorded(self, cases: Sequence[Conversation]) -> dict[int, Answer]:
        """The API's recorded answers to `cases`, by the number of their case."""
        from residency.gate.baseline import TRAFFIC, match, of_exchanges, read_recorded
        from residency.traffic.store import opened

        where = self.settings.gate.recorded
        if not where:
            return {}
        if where != TRAFFIC:
            return match(read_recorded(self.workspace / where), cases)
        with opened(self.workspace, self.settings.traffic) as store:
            return match(of_exchanges(store.between(0, math.inf)), cases)

    def _publish(self) -> None:
        """Put the gate's page and verdict where a person looks for them."""
        source = self.store.output(self.done("gate"), "verdict").path / VOLATILE
        target = self.workspace / "reports"
        with storage_errors(target):
            target.mkdir(exist_ok=True)
            for name in ("report.html", "verdict.json"):
                shutil.copyfile(source / name, target / name)

    def _release(self, builds: Mapping[str, Artifact]) -> None:
        gate = self.done("gate")
        chosen = gate.figures["release"]
        if chosen is None:
            return
        name = f"{self.settings.name}-{gate.key[:8]}"
        if any(known.name == name for known in releases.every(self.store)):
            return
        row = next(r for r in gate.figures["rows"] if r["build"] == chosen)
        release = Release(
            name=name,
            model=self.settings.name,
            base=self.base_name,
            build=read_build(builds[chosen].path),
            artifact=builds[chosen].digest,
            system=self.settings.data.system,
            max_tokens=gate.figures["max_tokens"],
            context=self.settings.engine.context,
            verdict=Verdict(
                build=chosen,
                passed=True,
                rule=gate.figures["rule"],
                figures={k: Rate(**v) for k, v in row["rates"].items()},
            ),
            gate_key=gate.key,
            created=gate.started,
        )
        folder = releases.lay_out(self.store, release)
        if key := self.settings.export.signing_key:
            from residency.export.sign import sign

            sign(folder, self.workspace / key)
        releases.write(self.store, release)


@contextmanager
def _full_disk_errors(path: Path) -> Iterator[None]:
    """Libraries written in Rust or C++ tell of a full disk in words only."""
    try:
        yield
    except Exception as error:  # their classes are private; all but a full disk is passed on
        if "No space left on device" in str(error) and not isinstance(error, OSError):
            raise OSError(28, "No space left on device", str(path)) from error
        raise
