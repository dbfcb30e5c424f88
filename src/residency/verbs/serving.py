"""The endpoint, and ways to talk to it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from residency import config, releases
from residency.cli import Result
from residency.config import ServedModel, Settings
from residency.errors import EngineError, InputError
from residency.progress import say
from residency.sealed import seal
from residency.store import Store


def serve(workspace: Path, name: str, port: int | None) -> Result:
    """Serve a release until a signal; on standard output, one JSON line once it is ready."""
    from residency.serve.run import serve as run

    settings = _settings(workspace)
    where = settings.serve
    if port is not None:
        where = where.model_copy(update={"port": port})
    if name or not where.models:
        release = (
            releases.read(Store(workspace), name) if name else releases.current(Store(workspace))
        )
        where = where.model_copy(update={"models": {release.model: ServedModel(release=name)}})

    def ready(url: str) -> None:
        click.echo(json.dumps({"url": url, "models": list(where.models)}))
        sys.stdout.flush()

    run(workspace, settings.model_copy(update={"serve": where}), ready=ready)
    return Result(data={"stopped": list(where.models)}, text="stopped")


def ask(workspace: Path, text: str, stream: bool) -> Result:
    """One question, one answer; with `stream` its pieces go to standard error as they come."""
    from residency.serve.ask import ask as send

    settings = _settings(workspace)
    with _endpoint(workspace, settings) as url:
        pieces = []
        for piece in send(url, _user(text), model=settings.name, stream=stream):
            pieces.append(piece)
            if stream:
                click.echo(piece, nl=False, err=True)
    if stream:
        click.echo(err=True)
    answer = "".join(pieces)
    return Result(data={"answer": answer, "model": settings.name}, text=answer)


def chat(workspace: Path) -> Result:
    """A conversation in the terminal; an empty line or end of input ends it."""
    from residency.serve.ask import ask as send

    settings = _settings(workspace)
    messages: list[dict[str, str]] = []
    with _endpoint(workspace, settings) as url:
        say(f"{settings.name}: an empty line ends the conversation")
        while text := _line():
            messages += _user(text)
            answer = ""
            for piece in send(url, messages, model=settings.name):
                click.echo(piece, nl=False, err=True)
                answer += piece
            click.echo(err=True)
            messages.append({"role": "assistant", "content": answer})
    return Result(data={"messages": messages}, text="")


def _settings(workspace: Path) -> Settings:
    settings = config.load(workspace)
    if settings.sealed:
        seal()
    return settings


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _line() -> str:
    try:
        return str(click.prompt("you", default="", show_default=False, err=True)).strip()
    except click.Abort:
        return ""


@contextlib.contextmanager
def _endpoint(workspace: Path, settings: Settings) -> Iterator[str]:
    """The running endpoint of this workspace, or one started for as long as it is needed."""
    from residency.serve.ask import models

    url = f"http://{settings.serve.host}:{settings.serve.port}"
    served: list[str] = []
    with contextlib.suppress(InputError, EngineError):
        served = models(url)
    if settings.name in served:
        yield url
        return
    command = [sys.executable, "-m", "residency", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--workspace", str(workspace)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("{"):
            raise EngineError("the endpoint did not start; its own message stands above")
        yield json.loads(line)["url"]
    finally:
        process.terminate()
        process.wait()
