"""Whether an engine gives the same bytes alone and beside others.

    python bench/determinism.py [--model FILE_OR_FOLDER] [--engine llama.cpp|vllm|onnx] [--others N]

Twenty prompts with one system message are answered greedily one by one, twice, on a quiet machine,
and a third time while others ask without pause, with the same system message, sampled, answers of
all lengths. The others ask the same engine; or, where `engines.guarantees` wants it so, another one
beside it. Prints how many answers have the same text, and in how many each token's log-probability
is the same number too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from residency.config import DEFAULT_BASE
from residency.engines.base import Engine, EngineSpec
from residency.engines.choice import ENGINES
from residency.engines.client import EngineClient
from residency.engines.guarantees import GUARANTEES
from residency.models import carried
from residency.models.base import resolve

SYSTEM = "You answer in plain words, in at most three sentences."
THINGS = "the sea,a clock,bread,a bridge,rain,a school,salt,a horse,glass,a river"
PROMPTS = [f"{verb} {thing}." for verb in ("Describe", "Why do people need") for thing in
           THINGS.split(",")]  # fmt: skip
TOKENS = 16
SLOTS = 4


class Answer(NamedTuple):
    text: str
    logprobs: tuple[float, ...]


def body(text: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
    return {"messages": messages, "temperature": 0.0, "seed": 0, "max_tokens": TOKENS, **more}


async def answer(client: EngineClient, text: str, fields: Mapping[str, Any]) -> Answer:
    parts: list[str] = []
    numbers: list[float] = []
    asked = body(text, logprobs=True, top_logprobs=1, **fields)
    async with contextlib.aclosing(client.chat_stream(asked)) as chunks:
        async for chunk in chunks:
            for choice in chunk["choices"]:
                parts.append(choice["delta"].get("content") or "")
                for token in (choice.get("logprobs") or {}).get("content") or []:
                    numbers.append(token["logprob"])
    return Answer("".join(parts), tuple(numbers))


@contextlib.asynccontextmanager
async def others(client: EngineClient, count: int) -> AsyncIterator[None]:
    """So many users that ask without pause."""

    async def user(seed: int) -> None:
        chance = random.Random(seed)
        for number in itertools.count():
            text = " ".join(chance.choices(PROMPTS, k=chance.randint(1, 6)))
            wishes = {"temperature": 1.0, "seed": number, "max_tokens": chance.randint(4, 40)}
            await client.chat(body(text) | wishes)

    tasks = [asyncio.create_task(user(seed)) for seed in range(count)]
    await asyncio.sleep(1)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def same(first: list[Answer], second: list[Answer]) -> str:
    pairs = list(zip(first, second, strict=True))
    texts = sum(a.text == b.text for a, b in pairs)
    return f"{texts} of {len(pairs)} texts, {sum(a == b for a, b in pairs)} with log-probabilities"


async def measure(asked: Engine, busy: Engine, fields: Mapping[str, Any], count: int) -> None:
    async with asked.client(300.0) as client, busy.client(300.0) as theirs:

        async def all_of_them() -> list[Answer]:
            return [await answer(client, text, fields) for text in PROMPTS]

        alone, again = await all_of_them(), await all_of_them()
        async with others(theirs, count):
            loaded = await all_of_them()
    print(f"  alone, twice: {same(alone, again)}")
    print(f"  under {count} others: {same(alone, loaded)}", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--engine", choices=ENGINES, default="llama.cpp")
    arguments.add_argument("--model", type=Path)
    arguments.add_argument("--others", type=int, default=8)
    given = arguments.parse_args()
    own = carried.gguf if given.engine == "llama.cpp" else lambda name: resolve(name).path
    model = given.model or own(DEFAULT_BASE)
    spec = EngineSpec(model=model, alias="bench", context=1024, slots=SLOTS)
    kind, guarantee = ENGINES[given.engine], GUARANTEES[given.engine]
    with kind(spec) as engine:
        print(f"{given.engine}, {model.name}, the same engine")
        asyncio.run(measure(engine, engine, {}, given.others))
        if guarantee.alone:
            with kind(replace(spec, slots=1)) as quiet:
                print(f"{given.engine}, {model.name}, an engine of its own, {guarantee.fields}")
                asyncio.run(measure(quiet, engine, guarantee.fields, given.others))


if __name__ == "__main__":
    main()
