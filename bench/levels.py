"""Every level of a model beside its f16: size, divergence, answers, speed; with and without an
importance matrix.

    python bench/levels.py WORKSPACE [--models specialist scratch-512 gemma-3-270m]
                           [--cases 71] [--texts 24] [--work DIR] [--write docs/concepts/levels.md]

WORKSPACE has a finished `residency run`: its data set is what all are asked, and its merged model
is the `specialist`. `scratch-512` is a Llama of width 512, into which K-quants fit, trained here
from nothing on the same task. `gemma-3-270m` is the carried model as it is: it was not trained for
the task, so that only its agreement with its own f16 counts, over fewer cases. What is done is kept
in DIR, each answer by itself, and a run that was killed goes on there; so does one with more cases.
`--write` puts the tables into a page, between its two marks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from scipy.stats import kendalltau, spearmanr

from residency.config import GateSettings
from residency.conversations import read_conversations
from residency.engines.base import EngineSpec
from residency.engines.llama_cpp import LlamaCpp
from residency.engines.logits import Logits
from residency.export.convert import convert
from residency.export.imatrix import collect
from residency.export.merge import load
from residency.export.quantize import open_source, quantize
from residency.gate import intervals, similar
from residency.gate.answers import Asked, keep, kept, speed
from residency.gate.ask import answer_to
from residency.gate.divergence import Text, measure
from residency.gate.score import same, task_kind
from residency.gate.stage import max_tokens
from residency.models.base import resolve
from residency.models.cache import home
from residency.models.chat import load_tokenizer, render
from residency.progress import Progress, say
from residency.store import Store, write_atomic
from residency.types import Conversation, Level, to_dict, to_json

F16 = "f16"
EXACT = ("bf16", "Q8_0")  # made without an importance matrix
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
SCRATCH_STEPS = 600
SCRATCH_ROWS = 8
CONTEXT = 1024
UNTAUGHT = 24
"""Cases that a model is asked which was not taught the task: it talks at length."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model, as a Hugging Face `folder`; `learnt` says whether it was taught the task."""

    name: str
    folder: Path
    learnt: bool


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all are asked, what the importance matrix is from, and the longest answer in tokens."""

    train: Sequence[Conversation]
    cases: Sequence[Conversation]
    texts: Sequence[Conversation]
    limit: int


def scratch(base: Path, train: Sequence[Conversation], target: Path) -> None:
    """Train a Llama of width 512 with the tokenizer of `base` on the answers of `train`."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import LlamaConfig, LlamaForCausalLM

    from residency.models.folder import copy_tokenizer

    tokenizer = load_tokenizer(base)
    torch.manual_seed(17)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    rows = [render(tokenizer, one.messages, answer=True) for one in train]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1e-3, total_steps=SCRATCH_STEPS, pct_start=0.05
    )
    draw = random.Random(17)
    with Progress("training a model of width 512", SCRATCH_STEPS) as progress:
        for _ in range(SCRATCH_STEPS):
            batch = draw.sample(rows, SCRATCH_ROWS)
            longest = max(len(row.ids) for row in batch)
            ids = torch.zeros(len(batch), longest, dtype=torch.long)
            learnt = torch.zeros(len(batch), longest, dtype=torch.bool)
            for n, row in enumerate(batch):
                ids[n, : len(row.ids)] = torch.tensor(row.ids)
                learnt[n, : len(row.ids)] = torch.tensor(row.learnt)
            hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
            wanted = learnt[:, 1:]
            loss = cross_entropy(model.lm_head(hidden[wanted]), ids[:, 1:][wanted])
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            progress.advance(note=f"loss {loss.item():.3f}")
    draft = target.with_name(f".{target.name}")
    shutil.rmtree(draft, ignore_errors=True)
    model.half().save_pretrained(draft)  # type: ignore[no-untyped-call]
    copy_tokenizer(base, draft)
    draft.rename(target)


def builds(subject: Subject, task: Task, work: Path) -> dict[str, Path]:
    """f16 and every level, with and without an importance matrix, by name."""
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
        imatrix = collect(load(subject.folder), tokenizer, task.train, "train.jsonl")
    reader = open_source(source)
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


def divergences(files: Mapping[str, Path], subject: Subject, task: Task, work: Path) -> Any:
    """Of each build from f16, over the answers of the task's texts; kept."""
    place = work / f"divergence-{len(task.texts)}.json"
    if not place.exists():
        tokenizer = load_tokenizer(subject.folder)
        texts = []
        for one in task.texts:
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


def table(subject: Subject, task: Task, files: Mapping[str, Path], work: Path) -> str:
    """The subject's rows in Markdown, and how far the orders agree."""
    told = {name: asked(name, file, task, work) for name, file in files.items()}
    texts = {name: [answer.text for answer in one.answers] for name, one in told.items()}
    far = divergences(files, subject, task, work)
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
    names = ["specialist", "scratch-512", "gemma-3-270m"]
    parser.add_argument("--models", nargs="+", choices=names, default=names)
    parser.add_argument("--cases", type=int, default=71)
    parser.add_argument("--texts", type=int, default=24)
    parser.add_argument("--work", type=Path, default=home() / "bench-levels")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    store = Store(given.workspace)
    export = store.last("export")
    assert export, "no export yet: residency run"
    dataset = store.root / "objects" / export.inputs["dataset"]
    test = read_conversations(dataset / "test.jsonl")
    task = Task(
        train=read_conversations(dataset / "train.jsonl"),
        cases=test[: given.cases],
        texts=test[: given.texts],
        limit=max_tokens(dataset, GateSettings()),
    )
    parts = []
    for name in given.models:
        # Its key changes with data, weights, settings and code.
        work = given.work / export.key / name
        work.mkdir(parents=True, exist_ok=True)
        subject = _subject(name, store.output(export, "merged").path / "model", task, work)
        say(f"{name}:")
        files = builds(subject, task, work)
        own = task if subject.learnt else replace(task, cases=task.cases[:UNTAUGHT])
        parts.append(f"### {name}\n\n{table(subject, own, files, work)}\n")
        print(parts[-1], flush=True)
    if given.write:
        text = given.write.read_text(encoding="utf-8")
        before, rest = text.split(MARKS[0], 1)
        after = rest.split(MARKS[1], 1)[1]
        middle = "\n".join(parts)
        given.write.write_text(
            f"{before}{MARKS[0]}\n\n{middle}\n{MARKS[1]}{after}", encoding="utf-8"
        )


def _subject(name: str, merged: Path, task: Task, work: Path) -> Subject:
    if name == "specialist":
        return Subject(name=name, folder=merged, learnt=True)
    if name == "scratch-512":
        folder = work / "model"
        if not folder.exists():
            scratch(merged, task.train, folder)
        return Subject(name=name, folder=folder, learnt=True)
    return Subject(name=name, folder=resolve(name).path, learnt=False)


if __name__ == "__main__":
    main()
