"""Every level of a model beside its f16: size, divergence, answers, speed; with and without an
importance matrix.

    python bench/levels.py WORKSPACE [--scratch WORKSPACE] [--work DIR]
                           [--models specialist scratch-512 gemma-3-270m]
                           [--write docs/concepts/levels.md]

Each WORKSPACE has a finished `residency run`. The merged model of the first is the `specialist`.
`scratch-512` began from nothing and has a width of 512, into which K-quants fit: the recipe hoist
with `parameters = 16_000_000`. Both are asked their own test split. `gemma-3-270m` is the carried
model as it is: it was not trained for the first workspace's task, so that only its agreement with
its own f16 counts, over fewer cases. What is done is kept in DIR, each answer by itself, and a run
that was killed goes on there. `--write` puts the tables into a page, between its two marks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from scipy.stats import kendalltau, spearmanr

from residency.builds import EXACT, F16
from residency.config import GateSettings
from residency.conversations import read_conversations
from residency.engines.base import EngineSpec
from residency.engines.llama_cpp import LlamaCpp
from residency.engines.logits import Logits
from residency.export.convert import convert
from residency.export.imatrix import collect
from residency.export.merge import load
from residency.export.quantize import quantize
from residency.gate import intervals, similar
from residency.gate.answers import Asked, keep, kept, speed
from residency.gate.ask import answer_to
from residency.gate.divergence import Text, measure
from residency.gate.score import same, task_kind
from residency.gate.stage import max_tokens
from residency.models.base import resolve
from residency.models.cache import home
from residency.models.chat import load_tokenizer, render
from residency.models.gguf_weights import open_gguf
from residency.progress import Progress, say
from residency.store import Store, write_atomic
from residency.types import Conversation, Level, to_dict, to_json

CLAIMS = {"Q8_0": "99.5", "Q5_K_M": "98-99", "Q4_K_M": "96-98", "Q3_K_M": "92-95", "Q2_K": "85-90"}
"""Per cent of quality that are kept, as the source material has it."""
MARKS = ("<!-- bench/levels.py -->", "<!-- /bench/levels.py -->")
HEAD = (
    "level",
    "MB",
    "divergence, nats",
    "99%",
    "same top token",
    "answers same, similar, different",
    "exact match (95%)",
    "kept of f16's",
    "claimed",
    "tokens/s",
)
CONTEXT = 1024
NAMES = ("specialist", "scratch-512", "gemma-3-270m")
UNTAUGHT = 24
"""Cases that a model is asked which was not taught the task: it talks at length."""
TEXTS = 16
"""Test rows whose distributions are compared; of `scratch-512`, whose vocabulary is small, more."""
SCRATCH_TEXTS = 200


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is asked, what the importance matrix is from, and the longest answer in tokens."""

    train: Sequence[Conversation]
    cases: Sequence[Conversation]
    texts: Sequence[Conversation]
    limit: int


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model, as a Hugging Face `folder`; `learnt` says whether it was taught the task. What is
    made of it is kept in `work`."""

    name: str
    folder: Path
    learnt: bool
    task: Task
    work: Path


def builds(subject: Subject) -> dict[str, Path]:
    """f16 and every level, with and without an importance matrix, by name."""
    work = subject.work
    source = work / f"{F16}.gguf"
    if not source.exists():
        convert(subject.folder, work / "draft.gguf", subject.name)
        (work / "draft.gguf").replace(source)
    found = {F16: source}
    wanted = [(level, False) for level in get_args(Level)]
    wanted += [(level, True) for level in get_args(Level) if level not in EXACT]
    missing = [one for one in wanted if not (work / f"{_name(*one)}.gguf").exists()]
    imatrix = None
    if any(weighted for _, weighted in missing):
        tokenizer = load_tokenizer(subject.folder)
        imatrix = collect(load(subject.folder), tokenizer, subject.task.train, "train.jsonl")
    reader = open_gguf(source)
    for level, weighted in missing:
        quantize(reader, work / "draft.gguf", level, imatrix if weighted else None)
        (work / "draft.gguf").replace(work / f"{_name(level, weighted)}.gguf")
    return found | {_name(*one): work / f"{_name(*one)}.gguf" for one in wanted}


def _name(level: str, weighted: bool) -> str:
    return f"{level}+imatrix" if weighted else level


async def _ask(spec: EngineSpec, task: Task, place: Path, done: int) -> None:
    with (
        LlamaCpp(spec) as engine,
        place.open("a", encoding="utf-8") as file,
        Progress(f"asking {spec.alias}", len(task.cases)) as progress,
    ):
        progress.resume_at(done)
        async with engine.client(3600) as client:
            await answer_to(client, task.cases[0], task.limit)  # warms up
            for case in task.cases[done:]:
                keep(file, *await answer_to(client, case, task.limit))
                progress.advance()


def asked(name: str, model: Path, task: Task, work: Path) -> Asked:
    """What the build answered, and how fast; each answer is kept."""
    place, count = work / f"{name}.jsonl", len(task.cases)
    if (done := len(kept(place).answers)) < count:
        spec = EngineSpec(model=model, alias=name, context=CONTEXT, slots=1, threads=2)
        asyncio.run(_ask(spec, task, place, done))
    got = kept(place)
    return Asked(answers=got.answers[:count], timings=got.timings[:count])


def divergences(files: Mapping[str, Path], subject: Subject) -> Any:
    """Of each build from f16, over the answers of the task's texts; kept."""
    place = subject.work / f"divergence-{len(subject.task.texts)}.json"
    if not place.exists():
        tokenizer = load_tokenizer(subject.folder)
        texts = []
        for one in subject.task.texts:
            whole = render(tokenizer, one.messages, answer=True)
            texts.append(Text(ids=whole.ids, answer=whole.learnt.index(True)))
        with ExitStack() as stack:
            sources = {
                name: stack.enter_context(Logits(file, context=CONTEXT, threads=2)).read
                for name, file in files.items()
            }
            reference = sources.pop(F16)
            write_atomic(place, to_json(to_dict(measure(reference, sources, texts))))
    return json.loads(place.read_text(encoding="utf-8"))


def table(subject: Subject, files: Mapping[str, Path]) -> str:
    """The subject's rows in Markdown, and how far the orders agree."""
    task = subject.task
    told = {name: asked(name, file, task, subject.work) for name, file in files.items()}
    texts = {name: [answer.text for answer in one.answers] for name, one in told.items()}
    far = divergences(files, subject)
    kind = task_kind([case.answer for case in [*task.train, *task.cases]])
    like = similar.load(None)
    right = {
        name: [same(kind, text, c.answer) for text, c in zip(said, task.cases, strict=True)]
        for name, said in texts.items()
    }
    whole = intervals.rate(right[F16])
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    orders: dict[str, list[float]] = {"divergence": [], "different": [], "loss": []}
    for name, file in files.items():
        relations = like.relations(kind, texts[name], texts[F16])
        counts = [relations.count(one) for one in ("exact", "similar", "different")]
        rate = intervals.rate(right[name])
        row = [name, f"{file.stat().st_size / 1e6:.1f}"]
        if name == F16:
            row += ["0", "0", "1"]
        else:
            figures = far[name]["answers"]
            row += [f"{figures[one]['value']:.2g}" for one in ("kld", "kld_p99")]
            row.append(f"{figures['same_top']['value']:.4f}")
            orders["divergence"].append(figures["kld"]["value"])
            orders["different"].append(counts[1] / 1e3 + counts[2])
            orders["loss"].append(whole.value - rate.value)
        row.append(", ".join(map(str, counts)))
        kept = f"{100 * rate.value / whole.value:.0f}%" if whole.value else "-"
        row += [f"{rate.value:.3f} ({rate.low:.2f}-{rate.high:.2f})", kept]
        row += [
            CLAIMS.get(name.partition("+")[0], ""),
            f"{speed(told[name]).tokens_per_second:.0f}",
        ]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join([*lines, "", _agreement(orders, learnt=subject.learnt)])


def _agreement(orders: Mapping[str, Sequence[float]], *, learnt: bool) -> str:
    said = []
    for name, words in (("different", "answers that changed"), ("loss", "loss of exact match")):
        if name == "loss" and not learnt:
            continue
        if len(set(orders[name])) == 1:
            said.append(f"in {words} all builds are equal")
            continue
        tau, rho = (test(orders["divergence"], orders[name]) for test in (kendalltau, spearmanr))
        said.append(
            f"with {words} Kendall's tau is {tau.statistic:.2f} (p = {tau.pvalue:.2g}), "
            f"Spearman's rho {rho.statistic:.2f}"
        )
    return f"Does divergence order the builds as the gate does? {'; '.join(said)}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--work", type=Path, default=home() / "bench-levels")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    if "scratch-512" in given.models and not given.scratch:
        parser.error("scratch-512 is in a workspace of its own: give --scratch")
    parts = []
    for name in given.models:
        own = given.scratch if name == "scratch-512" else given.workspace
        subject = _subject(name, own, given.work)
        say(f"{name}:")
        parts.append(f"### {name}\n\n{table(subject, builds(subject))}\n")
        print(parts[-1], flush=True)
    if given.write:
        text = given.write.read_text(encoding="utf-8")
        before, rest = text.split(MARKS[0], 1)
        after = rest.split(MARKS[1], 1)[1]
        middle = "\n".join(parts)
        given.write.write_text(
            f"{before}{MARKS[0]}\n\n{middle}\n{MARKS[1]}{after}", encoding="utf-8"
        )


def _subject(name: str, workspace: Path, work: Path) -> Subject:
    store = Store(workspace)
    export = store.last("export")
    assert export, f"{workspace}: no export yet: residency run"
    dataset = store.root / "objects" / export.inputs["dataset"]
    test = read_conversations(dataset / "test.jsonl")
    learnt = name != "gemma-3-270m"
    task = Task(
        train=read_conversations(dataset / "train.jsonl"),
        cases=test if learnt else test[:UNTAUGHT],
        texts=test[: SCRATCH_TEXTS if name == "scratch-512" else TEXTS],
        limit=max_tokens(dataset, GateSettings()),
    )
    merged = store.output(export, "merged").path / "model"
    folder = merged if learnt else resolve(name).path
    place = work / export.key / name  # the key changes with data, weights, settings and code
    place.mkdir(parents=True, exist_ok=True)
    return Subject(name=name, folder=folder, learnt=learnt, task=task, work=place)


if __name__ == "__main__":
    main()
