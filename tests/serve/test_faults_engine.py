"""Faults of a real engine, behind the gateway as a process."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import openai
import psutil
import pytest

from residency import store
from tests.engines.processes import eventually, parent
from tests.serve.processes import (
    ENDLESS,
    MODEL,
    QUESTION,
    Process,
    busy_slots,
    engine_of,
    long_answer,
    official,
    port_of,
    serving,
    status_of,
    url_of,
)
from tests.serve.server_main import workspace

SHORT = 8


class Desk:
    """A gateway with a real engine of one slot, and the workspace that it serves from."""

    def __init__(self, folder: Path, process: Process) -> None:
        self.folder = folder
        self.process = process
        self.url = url_of(process)
        self.client = official(self.url)

    @property
    def engine(self) -> psutil.Process:
        assert eventually(lambda: status_of(f"{self.url}/ready") == 200, 60)
        return engine_of(self.process)

    def say(self, max_retries: int = 0, **wishes: object) -> Any:
        client = self.client.with_options(max_retries=max_retries)
        return client.chat.completions.create(
            model=MODEL, messages=QUESTION, max_tokens=SHORT, extra_body=wishes
        )

    def last_event(self) -> Any:
        return list(long_answer(self.client, SHORT))[-1]


@pytest.fixture(scope="module")
def desk(base_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    with serving(folder, base_gguf, store.sha256_file(base_gguf), slots=1) as process:
        yield Desk(folder, process)


def test_killed_mid_stream_the_answer_ends_with_an_error_and_the_next_is_whole(desk: Desk) -> None:
    stream = long_answer(desk.client, 400)
    next(stream)
    desk.engine.kill()
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code == "engine_unavailable"
    # While it starts again there is a 503 that says when to come again, which this client heeds.
    assert desk.say(max_retries=5).choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
def test_killed_before_a_word_it_is_asked_again(desk: Desk, stream: bool) -> None:
    engine, gateway = desk.engine, psutil.Process(desk.process.pid)
    port = port_of(engine)
    engine.suspend()
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(desk.last_event if stream else desk.say)
        # A stopped process accepts nothing, so that it is seen at the other end alone.
        assert eventually(lambda: any(is_to(one, port) for one in gateway.net_connections()))
        engine.kill()
        assert asked.result().residency["guards"] == ["asked_again"]


def is_to(connection: Any, port: int) -> bool:
    return bool(connection.raddr) and connection.raddr.port == port


def test_hung_its_clients_have_their_deadlines(desk: Desk) -> None:
    engine = desk.engine
    with ThreadPoolExecutor() as pool:
        stream = long_answer(desk.client, 400, timeout=3.0)
        next(stream)
        engine.suspend()
        try:
            waits = pool.submit(desk.say, timeout=0.5)
            with pytest.raises(openai.InternalServerError) as caught:
                waits.result()
            assert caught.value.code == "queue_timeout"
            assert list(stream)[-1].residency["finish"] == "deadline"
            with pytest.raises(openai.InternalServerError) as caught:
                desk.say(timeout=0.5)
            assert caught.value.code == "engine_timeout"
        finally:
            engine.resume()
    assert desk.say().choices[0].message.content


@pytest.mark.slow
def test_hung_for_good_it_is_replaced(desk: Desk) -> None:
    engine = desk.engine
    engine.suspend()
    with pytest.raises(openai.InternalServerError) as caught:
        desk.say(timeout=1.0)
    assert caught.value.code == "engine_timeout"
    assert status_of(f"{desk.url}/ready") == 503
    assert eventually(lambda: not engine.is_running(), 120)
    assert eventually(lambda: status_of(f"{desk.url}/ready") == 200, 120)
    assert desk.say().choices[0].message.content


@pytest.mark.parametrize("stream", [True, False])
def test_the_slot_of_a_client_that_left_is_free(desk: Desk, stream: bool) -> None:
    busy = busy_slots(desk.engine)
    body = {"model": MODEL, "messages": QUESTION, "stream": stream, "max_tokens": 480}
    body |= {"temperature": 1.0, "logit_bias": ENDLESS}
    with contextlib.closing(http.client.HTTPConnection(desk.url.removeprefix("http://"))) as client:
        client.request("POST", "/v1/chat/completions", json.dumps(body))
        assert eventually(lambda: busy() == 1)
    left = time.monotonic()
    assert eventually(lambda: busy() == 0, 2)  # the whole answer takes more
    print(f"the slot was free after {time.monotonic() - left:.3f} s")


def test_a_corrupt_model_is_not_swapped_in(desk: Desk, base_gguf: Path, tmp_path: Path) -> None:
    broken = tmp_path / "model.gguf"
    content = bytearray(base_gguf.read_bytes())
    content[50_000_000:50_002_000] = bytes(2000)
    broken.write_bytes(content)
    assert desk.engine
    before = desk.say().choices[0].message.content
    workspace(desk.folder, broken, digest=store.sha256_file(base_gguf), name="r2")
    refused = f"{desk.url}/ready"
    assert eventually(lambda: "r2 was not taken up, r1 serves on" in said(refused))
    assert "SHA-256" in said(refused)
    assert desk.say().choices[0].message.content == before


def said(url: str) -> str:
    with urlopen(url, timeout=30) as response:
        return str(response.read().decode())


START = """
import resource, sys
from residency.engines.base import EngineSpec
from residency.engines.llama_cpp import LlamaCpp
from residency.errors import EngineLoadError
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
try:
    LlamaCpp(EngineSpec(model=Path(sys.argv[1]), alias="m", context=8192, slots=4)).start()
except EngineLoadError as error:
    print(error.message, "|", error.hint)
"""


def test_out_of_memory_the_start_fails_in_words(base_gguf: Path) -> None:
    with parent(START, base_gguf, 1_000_000_000) as process:
        out, _ = process.communicate(timeout=60)
    assert "llama.cpp cannot load it" in out
    assert "memory" in out or "alloc" in out
