from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from residency.engines.base import EngineSpec
from residency.engines.client import EngineClient
from residency.engines.llama_cpp import LlamaCpp, native_server, reason_in
from residency.errors import EngineLoadError, MissingError
from tests.engines.processes import eventually, gone, parent

QUESTION = {"messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 4}


def ask(engine: LlamaCpp) -> str:
    async def once() -> str:
        async with EngineClient(engine.url, engine.key) as client:
            return (await client.chat({**QUESTION, "temperature": 0, "seed": 1})).text

    return asyncio.run(once())


def test_two_engines_answer_beside_each_other(engine: LlamaCpp, spec: EngineSpec) -> None:
    with LlamaCpp(spec) as second:
        assert second.url != engine.url
        assert second.key != engine.key
        assert ask(second) == ask(engine) != ""


def test_memory_covers_the_model_and_peaks_no_lower(engine: LlamaCpp, spec: EngineSpec) -> None:
    assert engine.memory() > spec.model.stat().st_size
    assert engine.peak_memory() >= engine.memory()
    stopped = LlamaCpp(spec)
    assert (stopped.memory(), stopped.pid, stopped.alive()) == (0, 0, False)


def test_spin_count_and_key_reach_the_child_in_its_environment(engine: LlamaCpp) -> None:
    environment = Path(f"/proc/{engine.pid}/environ").read_bytes()
    assert b"GOMP_SPINCOUNT=1000\0" in environment
    assert engine.key.encode() in environment
    assert engine.key.encode() not in Path(f"/proc/{engine.pid}/cmdline").read_bytes()


def test_start_again_after_a_kill(spec: EngineSpec) -> None:
    engine = LlamaCpp(spec)
    engine.start()
    first = engine.pid
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: not engine.alive())
    assert "killed by SIGKILL" in engine.last_words()
    engine.start()
    assert engine.pid != first
    assert ask(engine)
    second = engine.pid
    engine.stop()
    assert gone(second)
    engine.stop()


def changed(source: Path, target: Path, old: bytes, new: bytes) -> Path:
    target.write_bytes(source.read_bytes().replace(old, new, 1))
    return target


def test_missing_model_is_said(spec: EngineSpec, tmp_path: Path) -> None:
    missing = dataclasses.replace(spec, model=tmp_path / "none.gguf")
    with pytest.raises(EngineLoadError, match=r"none\.gguf: there is no such model file"):
        LlamaCpp(missing).start()


def test_truncated_model_is_said(spec: EngineSpec, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    shutil.copy(spec.model, cut)
    os.truncate(cut, 50_000_000)
    with pytest.raises(EngineLoadError, match="cut short: 50,000,000 bytes of 98,362,432"):
        LlamaCpp(dataclasses.replace(spec, model=cut)).start()


def test_garbage_is_said(spec: EngineSpec, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.gguf"
    garbage.write_bytes(b"no model at all" * 1000)
    with pytest.raises(EngineLoadError, match="not a GGUF file"):
        LlamaCpp(dataclasses.replace(spec, model=garbage)).start()


def test_unknown_architecture_is_said_in_llama_cpps_words(spec: EngineSpec, tmp_path: Path) -> None:
    odd = changed(spec.model, tmp_path / "odd.gguf", b"llama", b"lxama")
    engine = LlamaCpp(dataclasses.replace(spec, model=odd))
    with pytest.raises(EngineLoadError, match="unknown model architecture: 'lxama'"):
        engine.start()
    assert (engine.pid, engine.alive()) == (0, False)


def test_changed_bytes_are_caught_by_the_digest(spec: EngineSpec, tmp_path: Path) -> None:
    digest = hashlib.sha256(spec.model.read_bytes()).hexdigest()
    data = bytearray(spec.model.read_bytes())
    data[-1] ^= 0xFF
    flipped = tmp_path / "flipped.gguf"
    flipped.write_bytes(data)
    found = hashlib.sha256(data).hexdigest()
    wrong = dataclasses.replace(spec, model=flipped, sha256=digest)
    with pytest.raises(EngineLoadError, match=f"SHA-256 is {found}, not {digest}"):
        LlamaCpp(wrong).start()


PARENT = """
import os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's job in the background ignores it
from residency.engines.base import EngineSpec
from residency.engines.llama_cpp import LlamaCpp
engine = LlamaCpp(EngineSpec(model=Path(sys.argv[1]), alias="base", context=512, slots=1))
engine.start()
# A process that was forked later holds the child's standard input open after the parent's death.
holder = os.fork()
if holder == 0:
    time.sleep(30)
    os._exit(0)
print(engine.pid, holder, flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_parents_death_by_a_signal_ends_the_engine(spec: EngineSpec, number: int) -> None:
    process = parent(PARENT, spec.model)
    assert process.stdout is not None
    engine, holder = map(int, process.stdout.readline().split())
    try:
        assert not gone(engine)
        process.send_signal(number)
        process.wait()
        assert eventually(lambda: gone(engine))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(holder, signal.SIGKILL)
        process.stdout.close()


def test_engine_outlives_the_thread_that_started_it(spec: EngineSpec) -> None:
    """The kernel's signal on a parent's death comes when the parent's thread ends."""
    engine = LlamaCpp(spec)
    thread = threading.Thread(target=engine.start)
    thread.start()
    thread.join()
    try:
        assert not eventually(lambda: not engine.alive(), seconds=1), engine.last_words()
        assert ask(engine)
    finally:
        engine.stop()


def test_unknown_native_server_is_missing(spec: EngineSpec) -> None:
    with pytest.raises(MissingError, match="no-such-server: there is no such llama-server"):
        LlamaCpp(dataclasses.replace(spec, server="no-such-server")).start()


def test_native_server_is_found_by_name_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert native_server("llama-server") == str(program)
    assert native_server("") == ""


def test_reason_is_the_first_error_of_the_log() -> None:
    log = [
        "0.00.004.033 I srv load_model: loading model 'x'",
        "0.00.004.033 E gguf_init_from_reader: invalid magic characters: 'abcd', expected 'GGUF'",
        "0.00.004.123 E srv    load_model: failed to load model, 'x'",
    ]
    assert reason_in(log) == "invalid magic characters: 'abcd', expected 'GGUF'"
    assert reason_in(log[2:]) == "failed to load model, 'x'"
    assert reason_in(log[:1]) == ""


def test_importing_the_engines_loads_nothing_heavy() -> None:
    code = "import sys, residency.engines.llama_cpp as _; print('xllamacpp' in sys.modules)"
    process = parent(code)
    assert process.communicate()[0].strip() == "False"
