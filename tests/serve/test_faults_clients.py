"""Clients that stall, flood or send nonsense, against the gateway as a process."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.engines.processes import eventually
from tests.serve.processes import MODEL, QUESTION, Process, official, serving, url_of

STALLED = 1000
MEGABYTES = 2**20
BODY = {"model": MODEL, "messages": QUESTION, "max_tokens": 8}
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: here\r\n"
WHOLE = json.dumps({**BODY, "stream": True, "max_tokens": 8}).encode()
STALLS = (
    b"",
    POST,
    POST + b"content-length: 1000\r\n\r\n{",
    POST + b"content-length: 9000000\r\n\r\n" + b" " * 200_000,
)
UNREAD = 20
"""So many ask and read nothing; more would fill the queue."""


@pytest.fixture(scope="module")
def process(base_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serving(tmp_path_factory.mktemp("desk"), base_gguf, timeout=20.0) as process:
        yield process


@pytest.fixture(scope="module")
def url(process: Process) -> str:
    return url_of(process)


@pytest.fixture
def gateway(url: str, process: Process) -> psutil.Process:
    return psutil.Process(process.pid)


def rss(gateway: psutil.Process) -> int:
    return int(gateway.memory_info().rss)


def answers(url: str) -> bool:
    with official(url) as client:
        answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=8)
    return bool(answer.choices[0].message.content)


@contextmanager
def connected(url: str) -> Iterator[HTTPConnection]:
    connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
    yield connection
    connection.close()


def sent(url: str, body: Any, **headers: str) -> tuple[int, Any]:
    """Status and body of the answer to a chat request with just these bytes."""
    with connected(url) as connection:
        connection.request("POST", "/v1/chat/completions", body, headers)
        response = connection.getresponse()
        return response.status, json.load(response)


@contextmanager
def stalled(url: str) -> Iterator[None]:
    """A thousand clients that send nothing, half a head, half a body, or read no answer."""
    host, _, port = url.removeprefix("http://").partition(":")
    asked = POST + b"content-length: %d\r\n\r\n" % len(WHOLE) + WHOLE
    sent = [asked] * UNREAD + [STALLS[n % len(STALLS)] for n in range(STALLED - UNREAD)]
    with ExitStack() as stack:
        for one in sent:
            client = stack.enter_context(socket.create_connection((host, int(port))))
            client.setblocking(False)
            client.send(one)
        yield


def test_a_thousand_that_stall_hold_up_nobody(url: str, gateway: psutil.Process) -> None:
    assert answers(url)
    memory, files = rss(gateway), gateway.num_fds()
    with stalled(url):
        assert answers(url)
        assert rss(gateway) - memory < 150 * MEGABYTES
        print(f"{(rss(gateway) - memory) / 1e6:.0f} MB, {gateway.num_fds() - files} files")
        # Those without a whole head go first, then who reads nothing.
        assert eventually(lambda: gateway.num_fds() < files + STALLED * 0.6, 60)
        assert answers(url)


@pytest.mark.slow
def test_a_thousand_that_stall_are_all_gone_in_the_end(url: str, gateway: psutil.Process) -> None:
    files = gateway.num_fds()
    with stalled(url):
        assert eventually(lambda: gateway.num_fds() <= files + 5, 120)
        assert answers(url)


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_of_100_mb_is_refused_and_not_kept(
    url: str, gateway: psutil.Process, declared: bool
) -> None:
    memory, length = [rss(gateway)], 100 * MEGABYTES

    def parts() -> Iterator[bytes]:
        for _ in range(100):
            memory.append(rss(gateway))
            yield b" " * MEGABYTES

    status, said = sent(url, parts(), **({"content-length": str(length)} if declared else {}))
    assert (status, said["error"]["code"]) == (413, "request_too_large")
    assert max(memory) - memory[0] < (2 if declared else 40) * MEGABYTES
    assert answers(url)


DEEP = 100_000


@pytest.mark.parametrize(
    "body",
    [
        b"[" * DEEP,
        b'{"messages":' * DEEP,
        json.dumps(BODY).encode()[:-1] + b', "tools": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"model": "clinic-desk", "messages": [{"role": "user", "content": "caf\xe9"}]}',
        b'{"model": "clinic-desk", "messages": [{"role": "user", "content": "\xed\xa0\x80"}]}',
        b"\xff\xfe" + json.dumps(BODY).encode("utf-16-le"),
        b"\x00" * 1000,
        b"",
    ],
    ids=[
        "open lists",
        "open objects",
        "deep tools",
        "latin-1",
        "surrogate",
        "utf-16",
        "nul",
        "empty",
    ],
)
def test_what_is_no_request_is_refused(url: str, body: bytes) -> None:
    status, said = sent(url, body)
    assert status == 400
    assert said["residency"]["party"] == "client"


def test_a_flood_of_headers_is_cut_off(url: str, gateway: psutil.Process) -> None:
    memory, line = rss(gateway), b"x-flood: " + b"y" * 1000 + b"\r\n"
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as client, pytest.raises(ConnectionError):
        client.sendall(POST)
        for _ in range(100_000):
            client.sendall(line)
    assert rss(gateway) - memory < 10 * MEGABYTES
    assert answers(url)
