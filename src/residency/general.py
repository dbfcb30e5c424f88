"""Thirty questions of general kind, by which is seen what a specialist has forgotten."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib import resources

from residency.near_duplicates import normalised
from residency.types import Conversation, Message


def questions() -> list[Conversation]:
    """The suite; a conversation's answer is the pattern of right ones."""
    file = resources.files("residency").joinpath("general.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [
        Conversation(
            messages=(
                Message(role="user", content=row["question"]),
                Message(role="assistant", content=row["right"]),
            ),
            source=f"general:{number}",
        )
        for number, row in enumerate(rows, 1)
    ]


def right(answers: Sequence[str], suite: Sequence[Conversation]) -> list[bool]:
    """Which answers contain what is asked for; case and width of characters don't count."""
    return [
        bool(re.search(rf"(?<![a-z0-9])(?:{case.answer})(?![a-z0-9])", normalised(answer)))
        for answer, case in zip(answers, suite, strict=True)
    ]
