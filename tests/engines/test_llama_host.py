"""The native server, stood in for by tests/fakes/llama_server.py."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from residency.engines.base import EngineSpec
from residency.engines.client import EngineClient
from residency.engines.llama_cpp import LlamaCpp
from residency.errors import EngineLoadError
from tests.engines.processes import ROOT, eventually, gone, parent


class Native:
    """The stand-in as a program, and what it was started with."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.program = folder / "llama-server"
        self.program.write_text(
            f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m tests.fakes.llama_server "$@"\n'
        )
        self.program.chmod(0o755)
        self.log = folder / "seen.jsonl"
        self.model = model

    def engine(self, kind: str) -> LlamaCpp:
        spec = EngineSpec(
            model=self.model, alias=kind, context=256, slots=3, threads=1, server=str(self.program)
        )
        return LlamaCpp(spec)

    def seen(self) -> list[dict[str, Any]]:
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def native(tmp_path: Path, base_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Native:
    found = Native(tmp_path, base_gguf)
    monkeypatch.setenv("FAKE_SEEN", str(found.log))
    monkeypatch.setenv("LLAMA_ARG_TEMP", "0.1")
    return found


def test_native_server_answers_and_stops(native: Native) -> None:
    async def ask(engine: LlamaCpp) -> str:
        async with EngineClient(engine.url, engine.key) as client:
            return (await client.chat({"messages": [{"role": "user", "content": "a b"}]})).text

    with native.engine("good") as engine:
        assert asyncio.run(ask(engine)) == "a b"
        assert engine.memory() > 0
        (started,) = native.seen()
        assert (started["host"], started["c"], started["np"]) == ("127.0.0.1", "768", "3")
        assert started["m"] == str(native.model)
        assert "LLAMA_ARG_TEMP" not in started["variables"]
        assert not gone(started["pid"])
    assert gone(started["pid"])


def test_native_servers_load_error_is_passed_on(native: Native) -> None:
    with pytest.raises(EngineLoadError, match=r"llama\.cpp cannot load it: it is broken"):
        native.engine("broken").start()


def test_native_servers_crash_is_named(native: Native) -> None:
    with pytest.raises(EngineLoadError, match="ended with signal SIGABRT"):
        native.engine("crash").start()


def test_a_port_taken_meanwhile_is_tried_again(native: Native) -> None:
    with native.engine("squat") as engine:
        first, second = native.seen()
        assert first["port"] != second["port"]
        assert engine.url.endswith(f":{second['port']}")


def test_native_servers_death_is_seen(native: Native) -> None:
    with native.engine("good") as engine:
        os.kill(native.seen()[0]["pid"], signal.SIGKILL)
        assert eventually(lambda: not engine.alive())
        assert "SIGKILL" in engine.last_words()


def test_stop_breaks_off_a_load(native: Native) -> None:
    engine, raised = native.engine("slow"), []

    def load() -> None:
        try:
            engine.start()
        except EngineLoadError as error:
            raised.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    assert eventually(lambda: bool(native.seen()))
    engine.stop()
    thread.join()
    assert len(raised) == 1
    assert eventually(lambda: gone(native.seen()[0]["pid"]))


PARENT = """
import sys
from pathlib import Path
from residency.engines.base import EngineSpec
from residency.engines.llama_cpp import LlamaCpp
model, server, alias = sys.argv[1:]
engine = LlamaCpp(EngineSpec(model=Path(model), alias=alias, threads=1, server=server))
engine.start()
"""


@pytest.mark.parametrize("kind", ["slow", "good"])
def test_parents_death_ends_host_and_native_server(native: Native, kind: str) -> None:
    code = PARENT + "import time; time.sleep(3600)"
    process = parent(code, native.model, native.program, kind)
    assert eventually(lambda: bool(native.seen()))
    server = native.seen()[0]["pid"]
    process.kill()
    process.communicate()
    assert eventually(lambda: gone(server))
