from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from residency.engines.base import EngineSpec
from residency.engines.llama_cpp import LlamaCpp
from residency.engines.supervisor import HealthPolicy, Restart, RestartPolicy, State, Supervisor
from residency.errors import EngineLoadError, EngineUnavailable
from tests.engines.processes import gone
from tests.fakes.engine import FakeEngine

QUICK = RestartPolicy(first=0.05, cap=0.2, limit=3)
QUESTION = {"messages": [{"role": "user", "content": "a b"}], "max_tokens": 4}


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not fact():
            await asyncio.sleep(0.02)


def test_pauses_grow_to_the_cap_and_end() -> None:
    policy = RestartPolicy(first=1, factor=3, cap=5, settled=60, limit=4)
    failures, pauses = 0, []
    for _ in range(5):
        failures, pause = policy.after(failures, lived=0)
        pauses.append(pause)
    assert pauses == [1, 3, 5, 5, None]


def test_an_engine_that_ran_long_begins_a_new_row() -> None:
    policy = RestartPolicy(first=1, settled=60, limit=2)
    assert policy.after(2, lived=59) == Restart(3, None)
    assert policy.after(2, lived=60) == Restart(1, 1)


def test_killed_engine_comes_back_with_a_new_client() -> None:
    async def run() -> None:
        supervisor = Supervisor(FakeEngine(), restart=QUICK)
        await supervisor.start()
        first = supervisor.client()
        os.kill(supervisor.engine.pid, signal.SIGKILL)
        await until(lambda: supervisor.state != "ready")
        with pytest.raises(EngineUnavailable, match="not ready"):
            supervisor.client()
        await until(lambda: supervisor.state == "ready")
        assert supervisor.restarts == 1
        assert supervisor.client() is not first
        assert (await supervisor.client().chat(QUESTION)).text == "a b"
        pid = supervisor.engine.pid
        await supervisor.stop()
        assert gone(pid)
        assert supervisor.state == "stopped"

    asyncio.run(run())


def test_changes_are_told_in_words() -> None:
    async def run() -> None:
        told: list[tuple[State, str]] = []
        supervisor = Supervisor(
            FakeEngine(), restart=QUICK, on_change=lambda state, words: told.append((state, words))
        )
        await supervisor.start()
        os.kill(supervisor.engine.pid, signal.SIGKILL)
        await until(lambda: len(told) == 5)
        await supervisor.stop()
        assert [state for state, _ in told] == [
            "loading", "ready", "waiting", "loading", "ready", "stopped",
        ]  # fmt: skip
        assert "killed by SIGKILL" in told[2][1]
        assert "starts again in 0.05 s" in told[2][1]

    asyncio.run(run())


def test_first_load_error_is_raised_and_not_tried_again() -> None:
    async def run() -> None:
        engine = FakeEngine(fails=1)
        supervisor = Supervisor(engine, restart=QUICK)
        with pytest.raises(EngineLoadError):
            await supervisor.start()
        assert (engine.starts, supervisor.state) == (1, "failed")
        await supervisor.stop()

    asyncio.run(run())


def test_gives_up_after_the_limit() -> None:
    async def run() -> None:
        engine = FakeEngine()
        supervisor = Supervisor(engine, restart=QUICK)
        await supervisor.start()
        engine.fails = 99
        os.kill(engine.pid, signal.SIGKILL)
        await until(lambda: supervisor.state == "failed")
        assert engine.starts == 1 + QUICK.limit
        assert supervisor.words == "fake.gguf: cannot be loaded; given up after 3 restarts"
        await supervisor.stop()

    asyncio.run(run())


def test_engine_that_runs_but_does_not_answer_is_replaced() -> None:
    async def run() -> None:
        health = HealthPolicy(every=0.1, limit=0.3, misses=2)
        supervisor = Supervisor(FakeEngine(), restart=QUICK, health=health)
        await supervisor.start()
        frozen = supervisor.engine.pid
        os.kill(frozen, signal.SIGSTOP)
        await until(lambda: supervisor.restarts == 1 and supervisor.state == "ready")
        assert gone(frozen)
        await supervisor.stop()

    asyncio.run(run())


def test_real_engine_comes_back_after_kill_9(spec: EngineSpec) -> None:
    async def run() -> None:
        supervisor = Supervisor(LlamaCpp(spec), restart=QUICK)
        await supervisor.start()
        answer = (await supervisor.client().chat({**QUESTION, "temperature": 0})).text
        stream = supervisor.client().chat_stream(
            {**QUESTION, "max_tokens": 400, "ignore_eos": True}
        )
        await anext(stream)
        os.kill(supervisor.engine.pid, signal.SIGKILL)
        with pytest.raises(EngineUnavailable):
            async for _ in stream:
                pass
        await until(lambda: supervisor.restarts == 1 and supervisor.state == "ready")
        assert (await supervisor.client().chat({**QUESTION, "temperature": 0})).text == answer
        await supervisor.stop()

    asyncio.run(run())


def test_stop_while_the_first_load_is_under_way(spec: EngineSpec) -> None:
    async def run() -> None:
        supervisor = Supervisor(LlamaCpp(spec))
        starting = asyncio.create_task(supervisor.start())
        await until(lambda: supervisor.engine.pid != 0)
        pid = supervisor.engine.pid
        starting.cancel()
        await supervisor.stop()
        assert gone(pid)
        assert supervisor.engine.pid == 0

    asyncio.run(run())


def test_restart_finds_a_file_that_changed(spec: EngineSpec, tmp_path: Path) -> None:
    async def run() -> None:
        model = tmp_path / "model.gguf"
        model.write_bytes(spec.model.read_bytes())
        supervisor = Supervisor(LlamaCpp(dataclasses.replace(spec, model=model)), restart=QUICK)
        await supervisor.start()
        model.unlink()
        os.kill(supervisor.engine.pid, signal.SIGKILL)
        await until(lambda: supervisor.state == "failed")
        assert "there is no such model file; given up" in supervisor.words
        await supervisor.stop()

    asyncio.run(run())
