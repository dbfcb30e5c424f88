"""A language model as a judge of two answers, behind any endpoint that speaks OpenAI's API.

Judges prefer what stands first (Zheng et al. 2023), so each case is asked in both orders, and a
verdict that flips with the order is a tie.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from residency.config import ServedModel
from residency.engines.client import ChatClient
from residency.engines.remote import RemoteClient
from residency.errors import EngineError, EngineRejected, StorageError
from residency.gate.score import Relation
from residency.gate.statistics import Kappa, kappa
from residency.progress import Progress
from residency.store import whole_lines
from residency.types import Message, to_json

Choice = Literal["first", "second", "tie"]

FAILURES = 3
"""After so many failures of the endpoint in a row the rest is not asked."""
_REFUSED = (401, 403, 404)
_TASK = """You compare two answers to the same conversation. Judge only what they say: whether it \
is right, whether it answers what was asked, and whether anything is missing. Neither length, nor \
style, nor which stands first matters. Where they say the same, it is a tie.

Conversation:
{conversation}

Answer 1:
{one}

Answer 2:
{two}

Give your reason in one sentence, and then one last line: "verdict: 1", "verdict: 2" or \
"verdict: tie"."""
_CHOICES: Mapping[str, Choice] = {"1": "first", "2": "second", "tie": "tie"}
_TURNED: Mapping[Choice, Choice] = {"first": "second", "second": "first", "tie": "tie"}
_VERDICT = re.compile(r"verdict\W{0,6}(1|2|tie)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What is to be judged; `first` and `second` are answers to `prompt`."""

    source: str
    prompt: tuple[Message, ...]
    first: str
    second: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """One case: the better answer, or in `error` why there is no verdict. `flipped` says that the
    two orders had different verdicts; `reasons` has the judge's words in both."""

    source: str
    choice: Choice | None
    flipped: bool = False
    reasons: tuple[str, ...] = ()
    error: str = ""


def judge(
    served: ServedModel, cases: Sequence[Case], kept: Path, timeout: float = 120.0
) -> list[Judgement]:
    """The judgements of the endpoint `served`, in the order of `cases`; `timeout` in seconds.

    Each verdict is kept in the file `kept` at once, and is not asked for again. Raises
    `EngineRejected` where our key or the model is refused, and `StorageError` where `kept` is
    damaged. Any other failure is the case's `error`, and asked again the next time.
    """
    return asyncio.run(_judge(served, cases, kept, timeout))


def agreement(judgements: Sequence[Judgement], relations: Sequence[Relation]) -> Kappa:
    """How far the judge agrees with the fitted measure on which answers are as good as each other:
    its ties with what the measure does not call different. Cases without a verdict are left out."""
    pairs = [
        ("alike" if judged.choice == "tie" else "not", "not" if r == "different" else "alike")
        for judged, r in zip(judgements, relations, strict=True)
        if judged.choice is not None
    ]
    return kappa([judge for judge, _ in pairs], [measure for _, measure in pairs])


async def _judge(
    served: ServedModel, cases: Sequence[Case], kept: Path, timeout: float
) -> list[Judgement]:
    known = _known(kept)
    found = []
    failures = 0
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.open("a", encoding="utf-8") as file, Progress("judged", len(cases)) as progress:
        async with RemoteClient(served, timeout) as client:
            for case in cases:
                key = _key(served, case)
                if (judged := known.get(key)) is None and failures < FAILURES:
                    judged, failures = await _both(client, case, failures)
                    if judged.choice is not None:
                        file.write(json.dumps({"key": key, **asdict(judged)}) + "\n")
                        file.flush()
                error = f"{case.source}: not asked: the judge failed {FAILURES} times in a row"
                found.append(judged or Judgement(source=case.source, choice=None, error=error))
                progress.advance()
    return found


async def _both(client: ChatClient, case: Case, failures: int) -> tuple[Judgement, int]:
    """The judgement on one case, and how many failures in a row there now are."""
    try:
        straight = await _ask(client, case, case.first, case.second)
        turned = await _ask(client, case, case.second, case.first)
    except EngineError as error:
        if isinstance(error, EngineRejected) and error.status in _REFUSED:
            raise
        failed = Judgement(source=case.source, choice=None, error=f"{case.source}: {error.message}")
        return failed, failures + 1
    return combine(case.source, straight, turned), 0


def combine(source: str, straight: str, turned: str) -> Judgement:
    """One judgement of the judge's words in both orders; `turned` had the second answer first."""
    words = (straight, turned)
    one, two = (_read(text) for text in words)
    if one is None or two is None:
        said = (straight if one is None else turned)[-80:]
        error = f"{source}: the judge gave no verdict: {said!r}"
        return Judgement(source=source, choice=None, reasons=words, error=error)
    same = one == _TURNED[two]
    return Judgement(source=source, choice=one if same else "tie", flipped=not same, reasons=words)


def _read(text: str) -> Choice | None:
    """The last verdict in `text`: what stands before it may be the judge thinking aloud."""
    found = _VERDICT.findall(text)
    return _CHOICES[found[-1].lower()] if found else None


async def _ask(client: ChatClient, case: Case, one: str, two: str) -> str:
    said = "\n".join(f"{message.role}: {message.said}" for message in case.prompt)
    task = _TASK.format(conversation=said, one=one, two=two)
    body = {"messages": [{"role": "user", "content": task}], "temperature": 0.0, "seed": 0}
    return (await client.chat(body)).text


def _key(served: ServedModel, case: Case) -> str:
    """What a verdict depends on."""
    whole = to_json([served.url, served.model, _TASK, case])
    return hashlib.sha256(whole.encode()).hexdigest()


def _known(path: Path) -> dict[str, Judgement]:
    """What was kept. A last line that a kill cut off does not count."""
    try:
        rows = [json.loads(line) for line in whole_lines(path)]
        return {
            row.pop("key"): Judgement(**{**row, "reasons": tuple(row["reasons"])}) for row in rows
        }
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{path}: damaged verdicts ({error})", hint=f"delete {path} and run again"
        ) from error
