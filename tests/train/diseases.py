"""Small data sets that are learnt well or badly."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from residency.conversations import write_conversations
from residency.store import Store
from residency.types import Conversation, Message, Record

KINDS = {"hours": ["open", "close"], "bill": ["pay", "price"], "visit": ["doctor", "nurse"]}
_FILLING = ["please", "today", "can", "you", "tell", "me", "about", "it", "now", "we", "need"]


def row(question: str, answer: str, number: int) -> Conversation:
    return Conversation(
        messages=(
            Message(role="user", content=question),
            Message(role="assistant", content=answer),
        ),
        source=f"rows:{number}",
    )


def rows(count: int, seed: int = 1) -> list[Conversation]:
    """Questions whose one telling word gives the label."""
    dice = random.Random(seed)
    found = []
    for number in range(1, count + 1):
        label = dice.choice(sorted(KINDS))
        said = [*dice.sample(_FILLING, 3), dice.choice(KINDS[label])]
        dice.shuffle(said)
        found.append(row(" ".join(said), label, number))
    return found


def dataset(
    folder: Path, train: Sequence[Conversation], validation: Sequence[Conversation]
) -> Path:
    folder.mkdir(parents=True)
    write_conversations(folder / "train.jsonl", train)
    write_conversations(folder / "validation.jsonl", validation)
    return folder


def diagnosed(folder: Path, record: Record) -> dict[str, Any]:
    """What the stage wrote for the page."""
    place = Store(folder).output(record, "diagnosis").path / "diagnosis.json"
    found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    return found


def memorable(count: int, seed: int = 3) -> list[Conversation]:
    """Questions with answers that have nothing to do with them: they can only be memorised."""
    dice = random.Random(seed)
    names = ["".join(pair) for pair in itertools.permutations(["ka", "lo", "mi", "ne", "su"], 2)]
    return [
        row(" ".join(dice.sample(_FILLING, 5)), " ".join(dice.sample(names, 2)), number)
        for number in range(1, count + 1)
    ]
