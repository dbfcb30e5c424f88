"""The gateway as a process with a real engine, and ways to look into both."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import psutil

from residency.engines.llama_host import KEY_VARIABLE
from tests.engines.processes import ROOT

MODEL = "clinic-desk"
QUESTION: Any = [{"role": "user", "content": "Tell a long story."}]
ENDLESS = {"0": -100, "2": -100}
"""A bias against the tokens that end an answer."""
Process = subprocess.Popen[str]


@contextmanager
def serving(
    folder: Path,
    model: Path,
    digest: str = "",
    slots: int = 2,
    watch: dict[str, Any] | None = None,
    **serve: Any,
) -> Iterator[Process]:
    """`tests.serve.server_main`; `serve` are settings of section [serve], `watch` of [watch]."""
    about = {"digest": digest, "slots": slots, "watch": watch or {}}
    given = json.dumps({"serve": {"port": 0, **serve}, **about})
    command = [sys.executable, "-m", "tests.serve.server_main", str(folder), str(model), given]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def url_of(process: Process) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def official(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=60)


def long_answer(client: openai.OpenAI, tokens: int, **wishes: Any) -> Any:
    """A stream that does not end by itself before `tokens`; `wishes` are our own fields."""
    return client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        stream=True,
        max_tokens=tokens,
        temperature=1.0,  # greedily it would run into a loop, which is cut off
        logit_bias=ENDLESS,
        extra_body=wishes,
    )


def engine_of(process: Process) -> psutil.Process:
    return psutil.Process(process.pid).children()[0]


def port_of(engine: psutil.Process) -> int:
    (port,) = {one.laddr.port for one in engine.net_connections() if one.status == "LISTEN"}
    return int(port)


def busy_slots(engine: psutil.Process) -> Callable[[], int]:
    """Asks the engine how many requests it is at work on."""
    url, key = f"http://127.0.0.1:{port_of(engine)}/slots", engine.environ()[KEY_VARIABLE]
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})

    def look() -> int:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return sum(slot["is_processing"] for slot in json.load(answer))

    return look


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
