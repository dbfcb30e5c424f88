"""Did the specialist forget what its base model knew? Thirty questions of general kind."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from residency.gate import intervals
from residency.gate.answers import Answer
from residency.gate.score import fold
from residency.gate.statistics import mcnemar
from residency.types import Conversation, Message, to_dict

MAX_TOKENS = 64


def questions() -> list[Conversation]:
    """The suite; a conversation's answer is the pattern of right ones."""
    file = resources.files("residency.gate").joinpath("forgetting.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [
        Conversation(
            messages=(
                Message(role="user", content=row["question"]),
                Message(role="assistant", content=row["right"]),
            ),
            source=f"forgetting:{number}",
        )
        for number, row in enumerate(rows, 1)
    ]


def right(answers: Sequence[Answer], suite: Sequence[Conversation]) -> list[bool]:
    """Which answers contain what is asked for; case and width of characters don't count."""
    return [
        bool(
            re.search(rf"(?<![a-z0-9])(?:{case.answer})(?![a-z0-9])", fold(answer.text).casefold())
        )
        for answer, case in zip(answers, suite, strict=True)
    ]


def compare(base: Sequence[Answer], specialist: Sequence[Answer]) -> dict[str, Any]:
    """How many both got right, the specialist's gain, and McNemar's p-value; see `statistics`."""
    suite = questions()
    before, after = right(base, suite), right(specialist, suite)
    return {
        "base": to_dict(intervals.rate(before)),
        "specialist": to_dict(intervals.rate(after)),
        "gain": to_dict(intervals.gain(after, before)),
        "p": mcnemar(after, before),
        "lost": [
            case.question
            for case, had, has in zip(suite, before, after, strict=True)
            if had and not has
        ],
    }
