"""One specialist in four engines: how often do they answer the same, and where not, why?

    python bench/agreement.py WORKSPACE [--cases 200] [--engines llama.cpp onnx onnx-int4 vllm]

WORKSPACE has a finished `residency run`. transformers, in float32, is the measure; the others run
the same merged weights: llama.cpp as f16, ONNX Runtime in float32 and with four bits, vLLM as it
loads them. Of each answer that differs the first token that does is looked at: how far it lies
below transformers' own choice there, in logits. What lies within rounding (`TIE`) is a draw that
two correct engines may decide differently; more is another model.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.config import GateSettings
from residency.conversations import SPLITS, read_conversations
from residency.engines.base import Engine, EngineSpec
from residency.engines.llama_cpp import LlamaCpp
from residency.engines.onnx import Onnx
from residency.engines.vllm import Vllm
from residency.export import onnx
from residency.export.merge import load
from residency.gate.ask import answer_to
from residency.gate.intervals import rate
from residency.gate.stage import max_tokens
from residency.models.chat import load_tokenizer, render
from residency.progress import Progress, track
from residency.store import Store
from residency.types import Conversation

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
    model: Any, tokenizer: Any, cases: Sequence[Conversation], limit: int
) -> list[list[int]]:
    """transformers' greedy answers, as token ids without the end of the turn."""
    import torch

    found = []
    for case in track(cases, "asking transformers"):
        prompt = render(tokenizer, case.prompt, answer=False).ids
        whole = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=limit,
            do_sample=False,
        )[0].tolist()
        said = whole[len(prompt) :]
        found.append(list(itertools.takewhile(lambda i: i != tokenizer.eos_token_id, said)))
    return found


async def answers(engine: Engine, cases: Sequence[Conversation], limit: int) -> list[str]:
    """The engine's greedy answers, asked one at a time."""
    async with engine.client(3600) as client:
        with Progress("asking", len(cases)) as progress:
            said = []
            for case in cases:
                said.append((await answer_to(client, case, limit))[0].text)
                progress.advance()
            return said


def parting(
    model: Any, tokenizer: Any, case: Conversation, ours: Sequence[int], text: str
) -> Parting:
    """Where `text` leaves our answer. An answer that ends is followed by the end of the turn."""
    import torch

    end = tokenizer.eos_token_id
    mine = [*ours, end]
    its = [*tokenizer(text, add_special_tokens=False).input_ids, end]
    at = next(n for n, (a, b) in enumerate(zip(mine, its, strict=False)) if a != b)
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
    given = parser.parse_args()
    store = Store(given.workspace)
    export = next(r for r in reversed(store.records()) if r.stage == "export")
    dataset = store.root / "objects" / export.inputs["dataset"]
    # What was trained on serves here too: it is asked who agrees, not who is right.
    rows = [c for split in reversed(SPLITS) for c in read_conversations(dataset / f"{split}.jsonl")]
    cases, limit = rows[: given.cases], max_tokens(dataset, GateSettings())
    merged = store.output(export, "merged").path / "model"
    tokenizer, model = load_tokenizer(merged), load(merged)
    ours = reference(model, tokenizer, cases, limit)
    said = [tokenizer.decode(ids) for ids in ours]
    print(
        f"{'':10}{'same':>12}{'95%':>14}{'partings':>10}{'ties':>6}{'median gap':>12}{'largest':>9}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for name in given.engines:
            model_of = {"llama.cpp": store.output(export, "f16").path / "model.gguf"}
            path = model_of.get(name, merged)
            if name.startswith("onnx"):
                path = Path(scratch) / name / "model"
                path.parent.mkdir()
                onnx.make(merged, path, "int4" if name == "onnx-int4" else "fp32")
            kind = {"llama.cpp": LlamaCpp, "vllm": Vllm}.get(name, Onnx)
            with kind(EngineSpec(model=path, alias=name, context=CONTEXT, slots=1)) as engine:
                texts = asyncio.run(answers(engine, cases, limit))
            same = rate([a == b for a, b in zip(said, texts, strict=True)])
            parted = [
                parting(model, tokenizer, case, ids, text)
                for case, ids, mine, text in zip(cases, ours, said, texts, strict=True)
                if mine != text
            ]
            report(name, same, parted)


def report(name: str, same: Any, parted: Sequence[Parting]) -> None:
    gaps = [one.gap for one in parted]
    ties = sum(gap <= TIE for gap in gaps)
    middle, most = (statistics.median(gaps), max(gaps)) if gaps else (0.0, 0.0)
    interval = f"{same.low:.3f}-{same.high:.3f}"
    print(
        f"{name:10}{same.value:12.3f}{interval:>14}{len(gaps):10}{ties:6}{middle:12.3f}{most:9.3f}"
    )
    for one in sorted(parted, key=lambda p: -p.gap)[:5]:
        instead = f"{one.theirs!r}, not {one.ours!r}"
        print(f"    {one.source} token {one.token}: {instead}, {one.gap:.3f} below")


if __name__ == "__main__":
    main()
