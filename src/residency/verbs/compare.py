"""Two of whatever answers, side by side: builds, releases, APIs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from residency import config, fingerprint, hardware, releases
from residency.builds import read_build
from residency.cli import Result
from residency.config import Endpoint, Settings
from residency.conversations import SPLITS, read_conversations
from residency.data.formats import read, require
from residency.errors import InputError
from residency.gate.compare import Trial, figures, unseen
from residency.gate.compare import compare as compare_two
from residency.gate.compare_page import render
from residency.gate.contender import Api, Contender, OwnBuild
from residency.gate.score import task_kind
from residency.gate.stage import MIN_TOKENS, max_tokens
from residency.progress import say
from residency.sealed import seal
from residency.store import Store, sha256_text, write_atomic
from residency.types import Conversation, Record, to_json


@dataclass(frozen=True, kw_only=True, slots=True)
class _Side:
    """A contender, and the data set that it was trained on, where we know it."""

    contender: Contender
    dataset: Path | None


def compare(
    workspace: Path,
    first: str,
    second: str,
    models: Sequence[str],
    key_variables: Sequence[str],
    timeout: float,
    file: Path | None,
) -> Result:
    """Ask both the test split, or `file`; exit code 2 when the second is shown to be worse."""
    settings = config.load(workspace)
    if settings.sealed:
        seal()
    hardware.calm_openmp()
    store = Store(workspace)
    urls = sum("://" in name for name in (first, second))
    endpoints = zip(
        _for_each(models, urls, "--model"),
        _for_each(key_variables, urls, "--key-variable"),
        strict=True,
    )
    one, other = (
        _endpoint(name, *next(endpoints), timeout)
        if "://" in name
        else _named(name, store, settings)
        for name in (first, second)
    )
    trial = _trial(workspace, store, settings, (one, other), file)
    with store.writing():
        found = compare_two(one.contender, other.contender, trial, settings.gate)
    data = figures(found)
    page = (workspace / "reports" / "compare.html").resolve()
    write_atomic(page, render(found, data))
    data["page"] = str(page)
    faults = [f"{side.name}: {side.fault}" for side in found.tallies if side.fault]
    lines = [data["verdict"], data["power"], *faults, f"page: {page}"]
    return Result(data=data, text="\n".join(lines), exit_code=2 if found.worse else 0)


def _for_each(values: Sequence[str], count: int, option: str) -> list[str]:
    """An option's values for `count` endpoints: one counts for all, none is empty."""
    if len(values) > 1 and len(values) != count:
        raise InputError(
            f"{option} is given {len(values)} times, for {count} endpoints",
            hint="give it once, or once for each in their order",
        )
    return list(values) if len(values) == count else list(values or [""]) * count


def _endpoint(url: str, model: str, key_variable: str, timeout: float) -> _Side:
    endpoint = Endpoint(url=url, model=model, key_variable=key_variable, timeout=timeout)
    return _Side(contender=Api(endpoint=endpoint), dataset=None)


def _named(name: str, store: Store, settings: Settings) -> _Side:
    """A build of the last export, a release, the current one, or the settings' API."""
    if name == "api" and settings.gate.api:
        return _Side(contender=Api(endpoint=settings.gate.api), dataset=None)
    export = store.last("export")
    built = [n for n, out in export.outputs.items() if out["kind"] == "build"] if export else []
    if export and name in built:
        folder = store.output(export, name).path
        return _build(name, folder, _dataset(store, export), settings.engine)
    known = [release.name for release in releases.every(store)]
    if name == "current" or name in known:
        release = releases.current(store) if name == "current" else releases.read(store, name)
        folder = releases.model_file(store, release).parent
        gate = next(r for r in store.records() if r.key == release.gate_key)
        engine = settings.engine.model_copy(update={"context": release.context})
        return _build(release.name, folder, _dataset(store, gate), engine)
    there = [*built, *known, *(["current"] if known else []), "a URL of OpenAI's API"]
    raise InputError(f"nothing is called {name}", hint=f"there are: {', '.join(there)}")


def _dataset(store: Store, record: Record) -> Path:
    path = store.root / "objects" / record.inputs["dataset"]
    if not path.is_dir():
        raise InputError(
            f"{path}: the data set of {record.stage} {record.key} is gone",
            hint="run: residency run",
        )
    return path


def _build(name: str, folder: Path, dataset: Path, engine: config.EngineSettings) -> _Side:
    contender = OwnBuild(
        name=name,
        folder=folder,
        build=read_build(folder),
        probes=fingerprint.probes(dataset),
        engine=engine,
    )
    return _Side(contender=contender, dataset=dataset)


def _trial(
    workspace: Path,
    store: Store,
    settings: Settings,
    sides: tuple[_Side, _Side],
    file: Path | None,
) -> Trial:
    """What is asked: of `file` or the newest test split, all that neither side was trained on."""
    if file:
        given = [
            row.with_system(settings.data.system) for row in require(read(file, settings.data.map))
        ]
        kind = task_kind([one.answer for one in given])
        # A token has a byte at least.
        longest = max(len(one.answer.encode()) for one in given)
        limit = settings.gate.max_tokens or max(MIN_TOKENS, longest)
    else:
        record = store.last("data")
        if record is None:
            raise InputError(
                f"{workspace}: there is no test split yet",
                hint="make it with: residency data build, or give cases with --file",
            )
        folder = store.output(record, "dataset").path
        given = read_conversations(folder / "test.jsonl")
        kind = task_kind([c.answer for split in SPLITS for c in _split(folder, split)])
        limit = max_tokens(folder, settings.gate)
    cases, learnt = unseen(given, _learnt(sides))
    if learnt:
        say(f"{learnt} cases are left out: one of both was trained on them")
    asked = [side.contender.identity for side in sides]
    key = sha256_text(to_json([asked, [to_json(case) for case in cases], limit]))[:16]
    return Trial(
        cases=cases,
        kind=kind,
        limit=limit,
        folder=store.root / "work" / f"compare-{key}",
        workspace=workspace,
    )


def _split(folder: Path, split: str) -> list[Conversation]:
    return read_conversations(folder / f"{split}.jsonl")


def _learnt(sides: Sequence[_Side]) -> Iterator[Conversation]:
    folders = {side.dataset for side in sides if side.dataset}
    return chain.from_iterable(_split(folder, "train") for folder in folders)
