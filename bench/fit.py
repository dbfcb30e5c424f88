"""Memory that `residency fit` predicts against what real processes take.

    python bench/fit.py DIR [--only smollm2|gemma|mistral] [--kind answer|train]
                        [--write docs/guides/fit.md]

Answers: llama.cpp's process with its context filled; resident memory at its highest, the mapped
weights included, and the first copies of those that it lays out anew. Training: the training stage
in a process of its own, without its look at the answers; anonymous memory at its highest and the
files mapped at the end, so that the pages of a weights file that was read once, which the kernel
takes back at need, do not count. The model shaped like Mistral-7B has random weights and SmolLM2's
vocabulary; it takes 5 GB of disk to answer and 15 to be trained.

Models and what was measured are kept in DIR, and a run that was killed goes on there. `--write`
puts the table into a page, between its two marks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mistral_shaped import shape as mistral
from mistral_shaped import write_folder, write_gguf

from residency import hardware
from residency.config import DEFAULT_BASE
from residency.conversations import write_conversations
from residency.engines.base import Engine, EngineSpec
from residency.engines.client import EngineClient
from residency.engines.llama_cpp import LlamaCpp
from residency.export.convert import convert
from residency.export.quantize import quantize
from residency.models import formats
from residency.models.base import resolve
from residency.models.cache import build_once
from residency.models.chat import load_tokenizer
from residency.models.gguf_weights import open_gguf
from residency.models.memory import Method, Step, need, training
from residency.models.shape import Shape, read_shape
from residency.store import write_atomic
from residency.train.rows import encode
from residency.types import Conversation, Level, Message, to_json

ALIAS = "bench"
REPACKED = ("Q4_0", "Q4_K", "IQ4_NL")
CALM = {**os.environ, "GOMP_SPINCOUNT": "1000"}
GEMMA = "gemma-3-270m"
MARKS = ("<!-- bench/fit.py -->", "<!-- /bench/fit.py -->")
HEAD = ("| model | what | predicted, MB | measured, MB | ratio |", "|---|---|---|---|---|")
TRAIN = """
import json, sys
from pathlib import Path
from residency import hardware
from residency.config import TrainSettings
from residency.models.chat import load_tokenizer
from residency.models.shape import stored_weights
from residency.train import stage
from residency.train.job import Job
from residency.train.plan import make_plan
from residency.train.rows import write_rows
base, dataset, folder = map(Path, sys.argv[1:4])
settings = TrainSettings.model_validate(json.loads(sys.argv[4]))
stage.prepare()
job = Job(base=base, dataset=dataset, settings=settings, folder=folder)
rows = write_rows(load_tokenizer(base), dataset, job.rows, "last", 0)
plan = make_plan(
    settings, parameters=stored_weights(base), lengths=rows.lengths, hardware=hardware.read()
)
stage.train_once(job, plan.changed("as asked", checkpointing=bool(settings.checkpointing)))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A model to answer with (`level`, `context`, `slots`) or to train (`step` on `dataset`)."""

    name: str
    model: Path
    shape: Shape
    level: str = ""
    context: int = 0
    slots: int = 1
    step: Step | None = None
    dataset: Path = Path()

    @property
    def words(self) -> str:
        if self.step is None:
            return f"{self.level}, context {self.context} x {self.slots}"
        s = self.step
        more = ", checkpointing" if s.checkpointed else ""
        return f"{s.method}, {s.precision}, {s.rows} rows of {s.length}{more}"

    def predicted(self) -> int:
        if self.step:
            return training(self.shape, self.step).total
        found = need(self.shape, level=self.level, context=self.context, slots=self.slots)
        return found.total + repacked(self.shape, self.level)


def repacked(shape: Shape, level: str) -> int:
    """Bytes of the tensors that llama.cpp copies at load into the layout of the processor (ggml's
    repack.cpp, for AVX2). The mapped copy stays resident until the kernel wants its pages, so it is
    in what is measured and not in what is needed."""
    types = formats.ggml_types(shape, level)
    copied = (
        math.prod(tensor.shape) * formats.ggml_bits(types[tensor.name]) / 8
        for tensor in shape.tensors
        if types[tensor.name] in REPACKED and tensor.name != "token_embd.weight"
    )
    return round(sum(copied))


async def _fill(client: EngineClient, context: int, slots: int) -> None:
    """Ask every slot at once, with a prompt that leaves little of its context."""
    bodies = (
        {
            "model": ALIAS,
            "messages": [{"role": "user", "content": f"{slot} " + "word " * (context - 100)}],
            "max_tokens": 16,
            "ignore_eos": True,
        }
        for slot in range(slots)
    )
    await asyncio.gather(*(client.chat(body) for body in bodies))
    await client.close()


def measure_answers(case: Case) -> int:
    spec = EngineSpec(
        model=case.model, alias=ALIAS, context=case.context, slots=case.slots, threads=2
    )
    engine: Engine = LlamaCpp(spec)
    with engine:
        asyncio.run(_fill(engine.client(timeout=1800), case.context, case.slots))
        return engine.peak_memory()


def measure_training(case: Case, step: Step) -> int:
    settings = {
        "method": step.method,
        "rank": step.rank if step.method != "full" else None,
        "batch": step.rows,
        "checkpointing": step.checkpointed,
        "precision": step.precision,
        "epochs": 1,
    }
    given = json.dumps({k: v for k, v in settings.items() if v is not None})
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-c", TRAIN, str(case.model), str(case.dataset), folder, given]
        log = Path(folder) / "log"
        with (
            log.open("wb") as out,
            subprocess.Popen(words, stdout=out, stderr=out, env=CALM) as process,
        ):
            peak = _watch(process)
        if process.returncode:
            raise SystemExit(f"{case.name}, {case.words}: {log.read_text()[-2000:]}")
    return peak


def _watch(process: subprocess.Popen[bytes]) -> int:
    """Bytes: the most anonymous memory that was seen, and the mapped files seen last."""
    most = files = 0
    while process.poll() is None:
        found = _status(process.pid)
        most = max(most, found.get("RssAnon", 0) + found.get("RssShmem", 0))
        files = found.get("RssFile", files)
        time.sleep(0.01)
    return most + files


def _status(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return {}
    fields = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(size) * 1024 for name, size, _ in fields}


def write_dataset(folder: Path, base: Path, length: int) -> tuple[int, float]:
    """Rows of about `length` tokens, half of them the answer; returns the longest, and the share
    that is learnt."""
    tokenizer = load_tokenizer(base)
    folder.mkdir(exist_ok=True)

    def row(number: int, words: int) -> Conversation:
        question = f"{number} " + "word " * words
        turns = [("user", question), ("assistant", "word " * words)]
        messages = tuple(Message(role=role, content=text) for role, text in turns)  # type: ignore[arg-type]
        return Conversation(messages=messages, source="bench:1")

    empty = len(next(encode(tokenizer, [row(0, 1)]))["input_ids"])
    words = (length - empty) // 2
    rows = [row(number, words) for number in range(10)]
    write_conversations(folder / "train.jsonl", rows[:8])
    write_conversations(folder / "validation.jsonl", rows[8:])
    got = next(encode(tokenizer, rows))
    longest = len(got["input_ids"])
    return longest, sum(label >= 0 for label in got["labels"]) / longest


def answer_cases(name: str, place: Path) -> Iterator[Case]:
    levels: tuple[Level, ...] = ("Q8_0", "Q4_K_M")

    def builds(folder: Path) -> None:
        source = folder / "f16.gguf"
        convert(resolve(name).path, source, ALIAS)
        reader = open_gguf(source)
        for level in levels:
            quantize(reader, folder / f"{level}.gguf", level)

    folder = build_once(place / name, builds)
    shape = read_shape(name)
    for level in ("f16", *levels):
        path = folder / f"{level}.gguf"
        for context, slots in ((2048, 1), (2048, 4), (8192, 1)):
            yield Case(
                name=name, model=path, shape=shape, level=level, context=context, slots=slots
            )


def train_cases(name: str, base: Path, place: Path, methods: list[Method]) -> Iterator[Case]:
    """Steps of training, over data sets that are written to `place`."""
    shape = read_shape(str(base))
    fast = hardware.read().fast_bfloat16
    dataset = place / "rows-256"
    longest, learnt = write_dataset(dataset, base, 256)
    for method in methods:
        half = method == "qlora" or (method == "lora" and fast)
        for checkpointed in (False, True):
            step = Step(
                method=method,
                rank=16,
                rows=4,
                length=longest,
                precision="bfloat16" if half else "float32",
                learnt=learnt,
                checkpointed=checkpointed,
            )
            yield Case(name=name, model=base, shape=shape, step=step, dataset=dataset)


def mistral_cases(place: Path, kind: str) -> Iterator[Case]:
    if kind != "train":

        def build(folder: Path) -> None:
            write_gguf(folder / "model.gguf", "Q4_K_M")

        path = build_once(place / "mistral-answer", build) / "model.gguf"
        model = mistral()
        yield Case(name=model.source, model=path, shape=model, level="Q4_K_M", context=1024)
    if kind != "answer":
        base = build_once(place / "mistral-train", write_folder)
        dataset = place / "rows-128"
        longest, learnt = write_dataset(dataset, base, 128)
        step = Step(
            method="qlora",
            rank=16,
            rows=1,
            length=longest,
            precision="bfloat16",
            learnt=learnt,
            checkpointed=True,
        )
        name, model = mistral().source, read_shape(str(base))
        yield Case(name=name, model=base, shape=model, step=step, dataset=dataset)


def cases(only: str, kind: str, place: Path) -> Iterator[Case]:
    if kind != "train":
        for name, short in ((DEFAULT_BASE, "smollm2"), (GEMMA, "gemma")):
            if only in ("", short):
                yield from answer_cases(name, place)
    if kind != "answer":
        if only in ("", "smollm2"):
            base = resolve(DEFAULT_BASE).path
            yield from train_cases(DEFAULT_BASE, base, place, ["lora", "full", "qlora"])
        if only in ("", "gemma"):
            yield from train_cases(GEMMA, resolve(GEMMA).path, place, ["lora"])
    if only in ("", "mistral"):
        yield from mistral_cases(place, kind)


def row(case: Case, measured: int) -> str:
    predicted = case.predicted()
    return (
        f"| {case.name} | {case.words} | {predicted / 1e6:,.0f} | {measured / 1e6:,.0f} | "
        f"{predicted / measured:.2f} |"
    )


def write_table(page: Path, rows: Sequence[str]) -> None:
    """Put the table between the page's marks."""
    before, rest = page.read_text(encoding="utf-8").split(MARKS[0], 1)
    after = rest.split(MARKS[1], 1)[1]
    table = "\n".join([*HEAD, *rows])
    page.write_text(f"{before}{MARKS[0]}\n\n{table}\n\n{MARKS[1]}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("dir", type=Path)
    parser.add_argument("--only", choices=["smollm2", "gemma", "mistral"], default="")
    parser.add_argument("--kind", choices=["answer", "train"], default="")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    kept = options.dir / "measured.json"
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    rows = []
    for case in cases(options.only, options.kind, options.dir):
        key = f"{case.name}, {case.words}"
        if key not in known:
            known[key] = measure_training(case, case.step) if case.step else measure_answers(case)
            write_atomic(kept, to_json(known))
        rows.append(row(case, known[key]))
        print(rows[-1], flush=True)
    if options.write:
        write_table(options.write, rows)


if __name__ == "__main__":
    main()
