"""`residency serve` whose record is on PostgreSQL, before an API: kept, masked, erased, and patient
while the server is away."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import openai
import pytest
from click.testing import CliRunner

from residency.cli import main
from residency.traffic.store import TrafficStore
from residency.types import Exchange, to_json
from tests.engines.processes import eventually
from tests.fakes.engine import FakeEngine
from tests.serve.processes import Process, official
from tests.traffic import postgres

VARIABLE = "KEY_OF_THE_API"
Serving = Callable[[str], tuple[Process, openai.OpenAI]]


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.own_server() as one:
        yield one


@pytest.fixture
def serve(tmp_path: Path, fake: FakeEngine) -> Iterator[Serving]:
    """Starts the verb with its record at an address; killed after the test."""
    with ExitStack() as stack:

        def start(address: str) -> tuple[Process, openai.OpenAI]:
            (tmp_path / "residency.toml").write_text(
                'name = "desk"\n[data]\nfile = "x.jsonl"\n'
                f'[traffic]\nstore = "{address}"\n[serve]\nport = 0\n'
                f'[serve.models.echo]\nurl = "{fake.url}/v1"\nkey_variable = "{VARIABLE}"\n'
            )
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "residency", "serve", "--workspace", str(tmp_path)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env={**os.environ, VARIABLE: fake.key},
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            return process, stack.enter_context(official(url))

        yield start


def ask(client: openai.OpenAI, text: str, **more: Any) -> str:
    messages: Any = [{"role": "user", "content": text}]
    answer = client.chat.completions.create(model="echo", messages=messages, **more)
    return answer.choices[0].message.content or ""


def recorded(address: str, count: int) -> list[Exchange]:
    """What is kept, once there are `count`."""
    with closing(TrafficStore(address)) as store:
        assert eventually(lambda: store.count() == count)
        return list(store.between(0.0, math.inf))


def end(process: Process) -> str:
    """What it said on standard error until its end."""
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 0
    return said


def test_what_is_asked_is_kept_masked_and_erased_meanwhile(
    server: postgres.Server, serve: Serving, tmp_path: Path
) -> None:
    address = server.schema("kept")
    process, client = serve(address)
    text = "Write to jane.doe@example.com please"
    assert ask(client, text, user="jane") == text
    assert ask(client, "hello", user="kim") == "hello"
    kept = recorded(address, 2)
    assert "jane" not in "".join(map(to_json, kept))
    assert kept[0].request["messages"][-1]["content"] == "Write to [EMAIL_1] please"
    words = ["traffic", "erase", "--json", "--workspace", str(tmp_path), "jane"]
    assert json.loads(CliRunner().invoke(main, words).stdout)["erased"] == 1
    assert ask(client, "bye", user="kim") == "bye"
    assert [one.request["messages"][-1]["content"] for one in recorded(address, 2)] == [
        "hello",
        "bye",
    ]
    assert "traffic:" not in end(process)


def test_it_goes_on_without_the_server_and_loses_nothing(
    server: postgres.Server, serve: Serving
) -> None:
    address = server.schema("away")
    process, client = serve(address)
    ask(client, "before")
    recorded(address, 1)
    server.stop()
    try:
        for number in range(20):
            assert ask(client, f"away {number}") == f"away {number}"
        assert process.stderr is not None
        assert any("trying again" in line for line in process.stderr)
    finally:
        server.start()
    ask(client, "after")
    kept = recorded(address, 22)
    said = [one.request["messages"][-1]["content"] for one in kept]
    assert said == ["before", *(f"away {number}" for number in range(20)), "after"]
    assert "exchanges are written again" in end(process)
