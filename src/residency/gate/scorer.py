"""A user's own scorer, `FILE.py:FUNCTION`, in a process of its own so that nothing is lost to it.

It is called as `function(messages, answer, reference)`: the prompt as OpenAI writes it, and two
texts. It gives a number in 0..1, or a dict of them by name.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from residency.errors import SettingsError
from residency.types import Conversation

SECONDS = 30.0  # for one case
HANGS = 3
"""So many cases may hang; after them the rest are not scored: each costs `SECONDS`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """One case: its scores by name, or in `error` why there are none, with file and line."""

    source: str
    scores: Mapping[str, float] | None
    error: str = ""


def score_all(
    scorer: str,
    workspace: Path,
    cases: Sequence[Conversation],
    answers: Sequence[str],
    seconds: float = SECONDS,
) -> list[Scored]:
    """Score every answer against its case's. `scorer` is `FILE.py:FUNCTION`, FILE seen from
    `workspace`; `seconds` bounds one case.

    Raises `SettingsError` where there is no such function. A case that fails has its `error`.
    """
    file, function = _place(scorer, workspace)
    found: list[Scored] = []
    hangs = 0
    while len(found) < len(cases) and hangs < HANGS:
        rest = list(zip(cases, answers, strict=True))[len(found) :]
        before = len(found)
        found += _run([str(file), function, str(seconds)], rest, seconds)
        hangs += len(found) > before and len(found) < len(cases)
    unasked = f"not scored: {scorer} had failed to finish {HANGS} cases before it"
    return found + [
        Scored(source=case.source, scores=None, error=unasked) for case in cases[len(found) :]
    ]


def _place(scorer: str, workspace: Path) -> tuple[Path, str]:
    file, _, function = scorer.rpartition(":")
    path = (workspace / file).resolve()
    if not file or not function.isidentifier() or not path.is_file():
        raise SettingsError(
            f"gate.scorer: there is no {scorer!r}",
            hint='give it as "FILE.py:FUNCTION", FILE seen from the workspace',
        )
    return path, function


def _run(
    arguments: list[str], cases: Sequence[tuple[Conversation, str]], seconds: float
) -> list[Scored]:
    """The cases up to the one, if any, in which the process ends; that one has an error."""
    found = []
    with _process(arguments) as (process, said):
        assert process.stdin is not None and process.stdout is not None
        if not (first := process.stdout.readline()):
            raise SettingsError(f"gate.scorer: {arguments[0]}: {_end(said, arguments[0], seconds)}")
        if error := json.loads(first)["error"]:
            raise SettingsError(f"gate.scorer: {error}", hint="see gate.scorer in residency.toml")
        for case, answer in cases:
            reply = _asked(process, case, answer)
            if reply is None:
                reply = {"error": _end(said, arguments[0], seconds)}
            error = f"{case.source}: {reply['error']}" if "error" in reply else ""
            found.append(Scored(source=case.source, scores=reply.get("scores"), error=error))
            if process.poll() is not None:
                break
    return found


@contextlib.contextmanager
def _process(arguments: list[str]) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "residency.gate.scorer_host", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            encoding="utf-8",
        )
        try:
            yield process, said
        finally:
            process.kill()
            process.communicate()


def _asked(
    process: subprocess.Popen[str], case: Conversation, answer: str
) -> dict[str, Any] | None:
    """The reply to one case; None where the process has ended instead."""
    assert process.stdin is not None and process.stdout is not None
    question = {
        "messages": [message.to_dict() for message in case.prompt],
        "answer": answer,
        "reference": case.answer,
    }
    try:
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass
    if line := process.stdout.readline():
        reply: dict[str, Any] = json.loads(line)
        return reply
    process.wait()
    return None


def _end(said: IO[str], file: str, seconds: float) -> str:
    """Why the process ended: the fault handler's innermost line of `file`, or its last words."""
    said.seek(0)
    words = said.read()
    if "Timeout (" in words:
        last = words.rpartition("Timeout (")[2]
        lines = re.findall(rf'File "{re.escape(file)}", line (\d+)', last)
        place = f"{file}:{lines[0]}" if lines else file
        return f"{place}: not finished after {seconds:g} s"
    return f"{file}: its process ended: {words.strip().splitlines()[-1] if words.strip() else '?'}"
