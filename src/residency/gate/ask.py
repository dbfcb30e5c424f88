"""Asking a build: the test split's prompts, one by one, through the engine that serves."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from residency import fingerprint
from residency.config import EngineSettings
from residency.engines.base import Engine, EngineSpec
from residency.engines.choice import engine_for
from residency.engines.client import ChatClient, chat_of
from residency.errors import EngineRejected, StorageError
from residency.gate.answers import Answer, Asked, Timing, keep, kept
from residency.progress import Progress, say
from residency.store import write_atomic
from residency.types import Build, Conversation, calls_text

TIMEOUT = 600.0
# Nats a token. On one machine the same file gives the same bits, whatever the number of threads; a
# build made on another machine may meet other kernels of llama.cpp here.
SAME_MODEL = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class Questions:
    """What a build is asked, and the `file` that keeps its answers."""

    file: Path
    conversations: Sequence[Conversation]
    max_tokens: int


def spec_of(folder: Path, build: Build, engine: EngineSettings, slots: int = 0) -> EngineSpec:
    """How `build` is run from its artifact's `folder`; `slots` 0 means as many as in `engine`."""
    return EngineSpec(
        model=folder / build.file,
        alias=build.name,
        context=engine.context,
        slots=slots or engine.slots,
        threads=engine.threads,
        server=engine.server,
        sha256=build.digest,
    )


def ask(
    folder: Path,
    build: Build,
    questions: Sequence[Questions],
    probes: Sequence[Conversation],
    engine: EngineSettings,
) -> list[Asked]:
    """What `build` answers to each of `questions`, from its artifact's `folder`.

    Greedy, in order, one at a time; what was answered before is not asked again. The running
    engine's fingerprint is checked first. Raises the `EngineError` tree, and `FingerprintError`
    when the engine does not answer as the build did when it was made.
    """
    about = questions[0].file.with_suffix(".engine.json")
    begun = [len(kept(one.file).answers) for one in questions]
    if about.exists() and begun == [len(one.conversations) for one in questions]:
        say(f"{build.name} was asked before")
    else:
        start = time.perf_counter()
        with engine_for(build.format)(spec_of(folder, build, engine)) as running:
            load = round(time.perf_counter() - start, 3)
            asyncio.run(_ask(running, folder, build, questions, probes))
            figures = {"memory": running.peak_memory(), "load": load}
        write_atomic(about, json.dumps(figures))
    try:
        figures = json.loads(about.read_text(encoding="utf-8"))
        return [replace(kept(one.file), **figures) for one in questions]
    except (ValueError, TypeError) as error:
        raise StorageError(
            f"{about}: damaged ({error})", hint=f"delete {about} and run again"
        ) from error


async def _ask(
    engine: Engine,
    folder: Path,
    build: Build,
    questions: Sequence[Questions],
    probes: Sequence[Conversation],
) -> None:
    async with engine.client(TIMEOUT) as client:
        made = fingerprint.read_fingerprint(folder / fingerprint.FILE_NAME)
        served = await fingerprint.take_engine(client, probes)
        step = f"serving {build.name}"
        fingerprint.compare(made, served, step=step, tolerance=SAME_MODEL)
        await answer_to(client, probes[0], questions[0].max_tokens)  # warms up
        for one in questions:
            await _go_on(client, build.name, one)


async def _go_on(client: ChatClient, name: str, questions: Questions) -> None:
    done, total = len(kept(questions.file).answers), len(questions.conversations)
    with questions.file.open("a", encoding="utf-8") as file, Progress(f"asking {name}", total) as p:
        p.resume_at(done)
        for conversation in questions.conversations[done:]:
            keep(file, *await answer_to(client, conversation, questions.max_tokens))
            p.advance()


async def answer_to(
    client: ChatClient, conversation: Conversation, max_tokens: int
) -> tuple[Answer, Timing]:
    """The greedy answer to one prompt; calls of tools as `calls_text`. Raises the `EngineError`
    tree; a refusal names the case."""
    body = {
        **chat_of(conversation.prompt, conversation.tools),
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
        text=calls_text(got.calls) or got.text,
        finish_reason=got.finish_reason,
        tokens=got.completion_tokens,
    )
    return answer, Timing(ttft=got.ttft, seconds=got.seconds)
