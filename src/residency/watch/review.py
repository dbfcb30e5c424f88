"""The cases that are most worth a person's label: a file to fill in, and to read again.

`review.jsonl` in the workspace has one case a line. Its owner writes the right answer into
`correction`, or sets `right` to true where the given one is right, and reads the file in again.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from residency.data.dedupe import compared
from residency.errors import InputError
from residency.near_duplicates import group_near
from residency.store import storage_errors, write_atomic
from residency.traffic.feedback import Feedback
from residency.types import Conversation, Message
from residency.watch.trust import Judged, Opinions

FILE_NAME = "review.jsonl"
REASONS = ("contradictory", "rated down", "spoiled", "unsure", "unknown")
"""Why a case is worth a label, the best reason first: people or models say different things; the
answer was called wrong, without a better one; a guard had to cut it; it is among the tenth of which
the model was least sure; it is like nothing that was taught."""
LEAST_SURE = 0.1
_SPOILED = ("repetition", "banned", "empty", "invalid_json", "schema_mismatch")
_COMPARED = 5000
"""Cases among which near-duplicates are looked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One case of the queue, for `times` calls that ask nearly the same."""

    judged: Judged
    reasons: tuple[str, ...]
    times: int = 1


def queue(
    judged: Iterable[Judged],
    contradictory: Collection[str],
    unknown: Collection[str],
    near: float,
    most: int,
) -> list[Case]:
    """At most `most` cases, the one with the best reasons first; of nearly the same question (from
    the likeness `near` on) one only. `contradictory` and `unknown` are ids of exchanges."""
    doubted = set(contradictory) | set(unknown)
    open_ = [
        one
        for one in judged
        if one.exchange in contradictory
        or (one.why in ("", "given") and _worth_a_look(one, doubted))
    ]
    sure = sorted(one.confidence for one in open_ if one.confidence is not None)
    bound = sure[int(len(sure) * LEAST_SURE)] if sure else 0.0
    cases = []
    for one in open_:
        unsure = one.confidence is not None and one.confidence < bound
        holds = {
            "contradictory": one.exchange in contradictory,
            "rated down": one.down,
            "spoiled": _spoiled(one),
            "unsure": unsure,
            "unknown": one.exchange in unknown,
        }
        if reasons := tuple(name for name in REASONS if holds[name]):
            cases.append(Case(judged=one, reasons=reasons))
    return _once(sorted(cases, key=_order)[:_COMPARED], near)[:most]


def _worth_a_look(one: Judged, doubted: Collection[str]) -> bool:
    return one.down or one.confidence is not None or one.exchange in doubted or _spoiled(one)


def _spoiled(one: Judged) -> bool:
    return bool(one.guards) and one.guards[-1] in _SPOILED


def _order(case: Case) -> tuple[Any, ...]:
    """By the best reason, then by how many there are, then by how unsure the model was."""
    sure = case.judged.confidence
    best = REASONS.index(case.reasons[0])
    return best, -len(case.reasons), 1.0 if sure is None else sure, -case.judged.time


def _once(cases: Sequence[Case], near: float) -> list[Case]:
    texts = [compared(_conversation(one.judged)) for one in cases]
    groups = group_near(texts, near)
    return [
        Case(judged=cases[group[0]].judged, reasons=cases[group[0]].reasons, times=len(group))
        for group in groups
    ]


def _conversation(one: Judged) -> Conversation:
    answer = Message(role="assistant", content=one.given)
    return Conversation(messages=(*one.prompt, answer), source=one.exchange)


class _Line(BaseModel):
    """A line of the file; what is not to be filled in is there to be read."""

    model_config = ConfigDict(extra="forbid", strict=True)

    exchange: Annotated[str, Field(min_length=1)]
    correction: str = ""
    right: bool = False
    why: list[str] = []
    times: int = 1
    asked: list[dict[str, Any]] = []
    given: str = ""
    comment: str = ""
    confidence: float | None = None

    @property
    def filled_in(self) -> bool:
        return self.right or bool(self.correction.strip())


def check_read(path: Path, said: Opinions) -> None:
    """Raises `InputError` where the file holds labels that `said` does not have yet."""
    waiting = [one for one in _lines(path) if one.filled_in and not _known(one, said)]
    if waiting:
        raise InputError(
            f"{path}: labels in it that were not read in yet: {len(waiting)}",
            hint=f"read them first: residency data review {path.name}",
        )


def write(path: Path, cases: Sequence[Case], said: Opinions) -> None:
    """Write the queue, over one whose labels are read in (`check_read`). Raises `StorageError`."""
    check_read(path, said)
    write_atomic(path, "".join(f"{_text(case)}\n" for case in cases), mode=0o600)


def _known(line: _Line, said: Opinions) -> bool:
    kept = said.get(line.exchange, {}).get("review")
    return kept is not None and kept.correction == line.correction.strip()


def _text(case: Case) -> str:
    one = case.judged
    row = {
        "exchange": one.exchange,
        "why": case.reasons,
        "times": case.times,
        "asked": [message.to_dict() for message in one.prompt],
        "given": one.given,
        "comment": one.comment,
        "confidence": one.confidence,
        "correction": "",
        "right": False,
    }
    return json.dumps(row, ensure_ascii=False)


def read(path: Path) -> list[Feedback]:
    """What was filled in. Raises `InputError` with file and line where a line cannot be read, or
    says both that the answer is right and another one: then nothing of it counts."""
    if not path.is_file():
        raise InputError(
            f"{path}: there is no such file", hint="write one with: residency data review"
        )
    now = time.time()
    return [
        Feedback(
            exchange=line.exchange,
            time=now,
            source="review",
            rating="up" if line.right else "down",
            correction=line.correction.strip(),
        )
        for line in _lines(path)
        if line.filled_in
    ]


def _lines(path: Path) -> list[_Line]:
    if not path.exists():
        return []
    with storage_errors(path):
        text = path.read_text(encoding="utf-8")
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            found.append(_Line.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(
                f"{place}: {where + ': ' if where else ''}{first['msg']}",
                hint="change correction and right only, or delete the line",
            ) from None
        if found[-1].right and found[-1].correction.strip():
            raise InputError(
                f"{place}: the given answer is right, and there is another one",
                hint="leave correction empty, or set right to false",
            )
    return found


def forget(path: Path, exchanges: Collection[str]) -> int:
    """Remove the cases of `exchanges` from the file; returns how many there were."""
    if not path.exists():
        return 0
    with storage_errors(path):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    left = [line for line in lines if _exchange(line) not in exchanges]
    if len(left) < len(lines):
        write_atomic(path, "".join(left), mode=0o600)
    return len(lines) - len(left)


def _exchange(line: str) -> str:
    try:
        value = json.loads(line)
    except ValueError:
        return ""
    return str(value.get("exchange", "")) if isinstance(value, Mapping) else ""


def reasons(cases: Sequence[Case]) -> dict[str, int]:
    """How many cases have each reason."""
    counts = Counter(reason for case in cases for reason in case.reasons)
    return {name: counts[name] for name in REASONS if counts[name]}
