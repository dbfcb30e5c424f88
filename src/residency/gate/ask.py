"""Asking a build: the test split's prompts, one by one, through the engine that serves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from residency import fingerprint
from residency.config import EngineSettings
from residency.engines.base import Engine, EngineSpec
from residency.engines.client import EngineClient
from residency.engines.llama_cpp import LlamaCpp
from residency.errors import EngineRejected
from residency.gate.answers import Answer, Asked, Timing
from residency.progress import Progress
from residency.types import Build, Conversation

TIMEOUT = 600.0
# Nats a token. On one machine the same file gives the same bits, whatever the number of threads; a
# build made on another machine may meet other kernels of llama.cpp here.
SAME_MODEL = 0.01


def ask(
    folder: Path,
    build: Build,
    conversations: Sequence[Conversation],
    probes: Sequence[Conversation],
    engine: EngineSettings,
    max_tokens: int,
) -> Asked:
    """Start `build` from its artifact's `folder`, check its fingerprint and ask it everything.

    Greedy, in order, one at a time. Raises the `EngineError` tree, and `FingerprintError` when the
    running engine does not answer as the build did when it was made.
    """
    spec = EngineSpec(
        model=folder / build.file,
        alias=build.name,
        context=engine.context,
        slots=engine.slots,
        threads=engine.threads,
        server=engine.server,
        sha256=build.digest,
    )
    with LlamaCpp(spec) as running:
        return asyncio.run(_ask(running, folder, build, conversations, probes, max_tokens))


async def _ask(
    engine: Engine,
    folder: Path,
    build: Build,
    conversations: Sequence[Conversation],
    probes: Sequence[Conversation],
    max_tokens: int,
) -> Asked:
    answers: list[Answer] = []
    timings: list[Timing] = []
    async with EngineClient(engine.url, engine.key, TIMEOUT) as client:
        made = fingerprint.read_fingerprint(folder / fingerprint.FILE_NAME)
        served = await fingerprint.take_engine(client, probes)
        step = f"serving {build.name}"
        fingerprint.compare(made, served, step=step, tolerance=SAME_MODEL)
        with Progress(f"asking {build.name}", len(conversations)) as progress:
            await _one(client, probes[0], max_tokens)  # warms up; its time is not kept
            for conversation in conversations:
                answer, timing = await _one(client, conversation, max_tokens)
                answers.append(answer)
                timings.append(timing)
                progress.advance()
    return Asked(answers=tuple(answers), timings=tuple(timings), memory=engine.peak_memory())


async def _one(
    client: EngineClient, conversation: Conversation, max_tokens: int
) -> tuple[Answer, Timing]:
    body = {
        "messages": [m.to_dict() for m in conversation.prompt],
        "temperature": 0.0,
        "seed": 0,
        "max_tokens": max_tokens,
    }
    try:
        got = await client.chat(body)
    except EngineRejected as error:
        raise EngineRejected(
            f"{conversation.source}: {error.message}", status=error.status, hint=error.hint
        ) from error
    answer = Answer(
        source=conversation.source,
        text=got.text,
        finish_reason=got.finish_reason,
        tokens=got.completion_tokens,
    )
    return answer, Timing(ttft=got.ttft, seconds=got.seconds)
