"""One specialist in four engines: how often do they answer the same, and where not, why?

    python bench/agreement.py WORKSPACE [--cases 200] [--engines llama.cpp onnx onnx-int4 vllm]
                              [--work DIR]

WORKSPACE has a finished `residency run`. transformers, in float32, is the measure; the others run
the same merged weights: llama.cpp as f16, ONNX Runtime in float32 and with four bits, vLLM as it
loads them. Of each answer that differs the first token that does is looked at: how far it lies
below transformers' own choice there, in logits. What lies within rounding (`TIE`) is a draw that
two correct engines may decide differently; more is another model. Each answer is kept in DIR, and a
run that was killed goes on there; an engine that is not installed is said, and left out.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.builds import read_build
from residency.config import GateSettings
from residency.conversations import SPLITS, read_conversations
from residency.engines.base import Engine, EngineSpec
from residency.engines.llama_cpp import LlamaCpp
from residency.engines.onnx import Onnx
from residency.engines.vllm import Vllm
from residency.errors import MissingError
from residency.export import onnx
from residency.export.merge import load
from residency.gate.answers import keep, kept
from residency.gate.ask import answer_to
from residency.gate.intervals import rate
from residency.gate.stage import max_tokens
from residency.models.cache import home
from residency.models.chat import load_tokenizer, render
from residency.progress import Progress
from residency.store import Store, whole_lines
from residency.types import Artifact, Conversation, Rate

ENGINES = ("llama.cpp", "onnx", "onnx-int4", "vllm")
CONTEXT = 1024
TIE = 0.25
"""Logits: 2 ** -8, which is bfloat16's precision, of logits of up to 64."""


@dataclass(frozen=True, kw_only=True)
class Parting:
    """Where an answer leaves transformers': the token's number, and how many logits the other's
    choice lies below the best one there."""

    source: str
    token: int
    ours: str
    theirs: str
    gap: float


def reference(
    model: Any, tokenizer: Any, cases: Sequence[Conversation], limit: int, place: Path
) -> list[list[int]]:
    """transformers' greedy answers, as token ids without the end of the turn; kept in `place`."""
    import torch

    done = len(whole_lines(place))
    with (
        place.open("a", encoding="utf-8") as file,
        Progress("asking transformers", len(cases)) as progress,
    ):
        progress.resume_at(done)
        for case in cases[done:]:
            prompt = render(tokenizer, case.prompt, answer=False).ids
            whole = model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=limit,
                do_sample=False,
            )[0].tolist()
            said = itertools.takewhile(lambda i: i != tokenizer.eos_token_id, whole[len(prompt) :])
            file.write(json.dumps(list(said)) + "\n")
            file.flush()
            progress.advance()
    return [json.loads(line) for line in whole_lines(place)][: len(cases)]


def answers(
    name: str, model: Path, cases: Sequence[Conversation], limit: int, place: Path
) -> list[str]:
    """The engine's greedy answers, asked one at a time; kept in `place`."""
    kind = {"llama.cpp": LlamaCpp, "vllm": Vllm}.get(name, Onnx)
    if len(kept(place).answers) < len(cases):
        with kind(EngineSpec(model=model, alias=name, context=CONTEXT, slots=1)) as engine:
            asyncio.run(_ask(engine, name, cases, limit, place))
    return [answer.text for answer in kept(place).answers][: len(cases)]


async def _ask(
    engine: Engine, name: str, cases: Sequence[Conversation], limit: int, place: Path
) -> None:
    done = len(kept(place).answers)
    with (
        place.open("a", encoding="utf-8") as file,
        Progress(f"asking {name}", len(cases)) as progress,
    ):
        progress.resume_at(done)
        async with engine.client(3600) as client:
            for case in cases[done:]:
                keep(file, *await answer_to(client, case, limit))
                progress.advance()


def parting(
    model: Any, tokenizer: Any, case: Conversation, ours: Sequence[int], text: str
) -> Parting | None:
    """Where `text` leaves our answer; None where its tokens are ours, and only the characters of
    one that was cut off differ. An answer that ends is followed by the end of the turn."""
    import torch

    end = tokenizer.eos_token_id
    mine = [*ours, end]
    its = [*tokenizer(text, add_special_tokens=False).input_ids, end]
    pairs = enumerate(zip(mine, its, strict=False))
    at = next((n for n, (a, b) in pairs if a != b), None)
    if at is None:
        return None
    prompt = render(tokenizer, case.prompt, answer=False).ids
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *mine[:at]]])).logits[0, -1]
    gap = float(logits[mine[at]] - logits[its[at]])
    words = [tokenizer.decode([one]) for one in (mine[at], its[at])]
    return Parting(source=case.source, token=at, ours=words[0], theirs=words[1], gap=gap)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--work", type=Path, default=home() / "bench-agreement")
    given = parser.parse_args()
    store = Store(given.workspace)
    export = store.last("export")
    assert export, "no export yet: residency run"
    dataset = store.root / "objects" / export.inputs["dataset"]
    # What was trained on serves here too: it is asked who agrees, not who is right.
    rows = [c for split in reversed(SPLITS) for c in read_conversations(dataset / f"{split}.jsonl")]
    cases, limit = rows[: given.cases], max_tokens(dataset, GateSettings())
    work = given.work / export.key
    work.mkdir(parents=True, exist_ok=True)
    merged = store.output(export, "merged").path / "model"
    tokenizer, model = load_tokenizer(merged), load(merged)
    ours = reference(model, tokenizer, cases, limit, work / "transformers.jsonl")
    said = [tokenizer.decode(ids) for ids in ours]
    print(
        f"{'':10}{'same':>12}{'95%':>14}{'partings':>10}{'ties':>6}{'median gap':>12}{'largest':>9}"
    )
    for name in given.engines:
        try:
            path = model_for(name, merged, store.output(export, "f16"), work)
            texts = answers(name, path, cases, limit, work / f"{name}.jsonl")
        except MissingError as error:
            print(f"{name:10}  not asked: {error.message}; {error.hint}", flush=True)
            continue
        parted = [
            None if mine == text else parting(model, tokenizer, case, ids, text)
            for case, ids, mine, text in zip(cases, ours, said, texts, strict=True)
        ]
        report(name, rate([one is None for one in parted]), [one for one in parted if one])


def model_for(name: str, merged: Path, f16: Artifact, work: Path) -> Path:
    """What the engine loads; ONNX models are made in `work`."""
    if name == "llama.cpp":
        return f16.path / read_build(f16.path).file
    if name == "vllm":
        return merged
    path = work / name
    if not path.exists():
        draft = work / f".{name}"
        shutil.rmtree(draft, ignore_errors=True)
        onnx.make(merged, draft, "int4" if name == "onnx-int4" else "fp32")
        draft.rename(path)
    return path


def report(name: str, same: Rate, parted: Sequence[Parting]) -> None:
    gaps = [one.gap for one in parted]
    ties = sum(gap <= TIE for gap in gaps)
    middle, most = (statistics.median(gaps), max(gaps)) if gaps else (0.0, 0.0)
    interval = f"{same.low:.3f}-{same.high:.3f}"
    print(
        f"{name:10}{same.value:12.3f}{interval:>14}{len(gaps):10}{ties:6}{middle:12.3f}{most:9.3f}",
        flush=True,
    )
    for one in sorted(parted, key=lambda p: -p.gap)[:5]:
        instead = f"{one.theirs!r}, not {one.ours!r}"
        print(f"    {one.source} token {one.token}: {instead}, {one.gap:.3f} below")


if __name__ == "__main__":
    main()
