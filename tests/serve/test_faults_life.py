"""Signals under load, and a traffic store that cannot be written, with real processes."""

from __future__ import annotations

import contextlib
import resource
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import openai
import pytest

from residency.config import ServeSettings
from residency.traffic.store import FILE_NAME, TrafficStore
from residency.traffic.writer import Recorder
from tests.engines.processes import eventually, gone
from tests.serve import processes
from tests.serve.conftest import Served
from tests.serve.processes import (
    MODEL,
    QUESTION,
    Process,
    engine_of,
    long_answer,
    official,
    url_of,
)

STREAMS = 8
TOKENS = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "desk"


@pytest.fixture
def process(folder: Path, base_gguf: Path) -> Iterator[Process]:
    with processes.serving(folder, base_gguf, slots=STREAMS) as process:
        yield process


def traffic(folder: Path) -> Path:
    return folder / ".residency" / FILE_NAME


def kept(folder: Path) -> list[str]:
    """The ids of the recorded exchanges."""
    store = TrafficStore(traffic(folder))
    try:
        return [one.id for one in store.between(0, 1e12)]
    finally:
        store.close()


def say(client: openai.OpenAI) -> str:
    """One short answer; gives the id under which it is recorded."""
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=QUESTION, max_tokens=4
    )
    return str(raw.headers["x-request-id"])


def test_sigterm_under_load_cuts_nothing(process: Process, folder: Path) -> None:
    begun = threading.Barrier(STREAMS + 1)

    def finish(client: openai.OpenAI) -> str:
        stream = long_answer(client, TOKENS)
        next(stream)
        begun.wait(60)
        return str(list(stream)[-1].choices[0].finish_reason)

    with official(url_of(process)) as client, ThreadPoolExecutor(STREAMS) as pool:
        asked = [pool.submit(finish, client) for _ in range(STREAMS)]
        begun.wait(60)
        process.send_signal(signal.SIGTERM)
        ends = [one.result() for one in asked]
    _, stderr = process.communicate(timeout=60)
    assert ends == ["length"] * STREAMS
    assert process.returncode == 0
    assert "Traceback" not in stderr
    assert len(kept(folder)) == STREAMS


def test_sigkill_leaves_what_was_recorded_and_no_engine(process: Process, folder: Path) -> None:
    with official(url_of(process)) as client:
        before = [say(client) for _ in range(3)]
        assert eventually(lambda: kept(folder) == before)
        stream = long_answer(client, 400)
        next(stream)
        engine = engine_of(process).pid
        process.kill()
    assert eventually(lambda: gone(engine))
    assert kept(folder) == before
    with contextlib.closing(sqlite3.connect(traffic(folder))) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@contextlib.contextmanager
def locked(folder: Path, _: Process | None) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(traffic(folder), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextlib.contextmanager
def full(_: Path, process: Process) -> Iterator[None]:
    """The process may make no file longer, as on a disk without room."""
    before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, before[1]))
    yield
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("fault", [locked, full])
def test_while_the_store_cannot_be_written_answers_go_on(
    process: Process, folder: Path, fault: Callable[..., AbstractContextManager[None]]
) -> None:
    with official(url_of(process)) as client:
        asked = [say(client)]
        assert eventually(lambda: kept(folder) == asked)
        assert process.stderr is not None
        with fault(folder, process):
            asked += [say(client) for _ in range(3)]
            assert any("trying again" in line for line in process.stderr)
        assert eventually(lambda: kept(folder) == asked)
        assert any("exchanges are written again" in line for line in process.stderr)


def test_once_no_more_can_be_kept_nothing_is_taken_on(serving: Callable[..., Served]) -> None:
    served = serving(settings=ServeSettings(record="whole"))
    store = TrafficStore(traffic(served.folder))
    recorder = Recorder(store, mode="whole", retention_days=0, limit=2)
    before = served.gateway.books
    served.gateway.books = replace(before, recorder=recorder)
    with locked(served.folder, None):
        served.ask()
        served.ask()
        assert eventually(lambda: recorder.full)
        with pytest.raises(openai.InternalServerError) as caught:
            served.ask()
        assert (caught.value.status_code, caught.value.code) == (503, "record_stalled")
        assert caught.value.response.headers["retry-after"]
    assert eventually(lambda: not recorder.full)
    served.ask()
    assert eventually(lambda: recorder.written == 3)
    served.gateway.books = before
    assert recorder.close() == 0
    assert store.count() == 3
    store.close()
