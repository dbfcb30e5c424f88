"""The gateway as a process with a real engine: how it starts, survives and ends."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import anthropic
import openai
import psutil
import pytest

from residency.errors import InputError
from residency.serve.ask import ask, models
from residency.serve.run import listen
from tests.engines.processes import eventually, gone
from tests.serve.processes import (
    QUESTION,
    Process,
    engine_of,
    long_answer,
    official,
    status_of,
    url_of,
)


def test_it_serves_survives_its_engine_and_drains(start: Callable[..., Process]) -> None:
    process = start()
    url = url_of(process)
    assert models(url) == ["clinic-desk"]
    whole = "".join(ask(url, QUESTION, model="clinic-desk", stream=False))
    assert whole == "".join(ask(url, QUESTION, model="clinic-desk"))
    assert whole
    word = whole.split()[2]
    with anthropic.Anthropic(base_url=url, api_key="any") as anthropics:
        ended = anthropics.messages.create(
            model="clinic-desk", max_tokens=48, messages=QUESTION, stop_sequences=["€", word]
        )
    assert (ended.stop_reason, ended.stop_sequence) == ("stop_sequence", word)

    engine_of(process).kill()
    assert eventually(lambda: status_of(f"{url}/ready") == 503)
    assert status_of(f"{url}/health") == 200
    assert eventually(lambda: status_of(f"{url}/ready") == 200, 60)
    assert "".join(ask(url, QUESTION, model="clinic-desk")) == whole

    engine = engine_of(process).pid
    with official(url) as client:
        stream = long_answer(client, 300)
        next(stream)
        process.send_signal(signal.SIGTERM)
        assert eventually(lambda: status_of(f"{url}/ready") == 503)
        assert list(stream)[-1].choices[0].finish_reason == "length"
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0
    assert f"serving clinic-desk on {url}" in stderr
    assert "clinic-desk: the engine was killed by SIGKILL" in stderr
    assert "Traceback" not in stderr
    assert gone(engine)


@pytest.mark.parametrize("how", ["second signal", "end of drain"])
def test_what_is_not_done_in_time_is_broken_off(start: Callable[..., Process], how: str) -> None:
    process = start(drain=0.5 if how == "end of drain" else 60.0)
    with official(url_of(process)) as client:
        stream = long_answer(client, 480)
        next(stream)
        process.send_signal(signal.SIGINT)
        if how == "second signal":
            assert process.stderr is not None
            assert any("shutting down" in line for line in process.stderr)
            process.send_signal(signal.SIGINT)
        with pytest.raises(openai.APIError) as caught:
            list(stream)
    assert caught.value.code == "shutting_down"
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_signal_while_it_loads_ends_it(start: Callable[..., Process]) -> None:
    process = start()
    assert eventually(lambda: bool(psutil.Process(process.pid).children()))
    engine = engine_of(process).pid
    process.send_signal(signal.SIGTERM)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert stdout == ""
    assert eventually(lambda: gone(engine))


@pytest.mark.parametrize(
    ("content", "digest", "words"),
    [(b"GGUF", "", "model.gguf"), (None, "0" * 64, "SHA-256")],
)
def test_an_engine_that_cannot_start_ends_it_with_the_reason(
    start: Callable[..., Process], tmp_path: Path, content: bytes | None, digest: str, words: str
) -> None:
    model = None
    if content is not None:
        model = tmp_path / "model.gguf"
        model.write_bytes(content)
    process = start(model, digest)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.startswith("error: ") and words in stderr
    assert "Traceback" not in stderr


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"127.0.0.1:{port}: the port is in use") as caught:
            listen("127.0.0.1", port)
    assert "another port" in caught.value.hint


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_it_listens_on_loopback(host: str) -> None:
    with listen(host, 0) as sock:
        assert sock.getsockname()[1] > 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_answer_is_not_held_back_by_nagle(host: str) -> None:
    async def delayed() -> int:
        accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        with listen(host, 0) as sock:
            server = await asyncio.start_server(lambda _, writer: accepted.put(writer), sock=sock)
            async with server:
                _, client = await asyncio.open_connection(*sock.getsockname()[:2])
                ours = await accepted.get()
                found = ours.get_extra_info("socket")
                option: int = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                for one in (client, ours):
                    one.close()
                return option

    assert asyncio.run(delayed())


@pytest.mark.parametrize("host", ["192.0.2.1", "example.com", ""])
def test_it_listens_on_addresses_of_this_machine_alone(host: str) -> None:
    with pytest.raises(InputError, match=host or "not an IP address"):
        listen(host, 0)
