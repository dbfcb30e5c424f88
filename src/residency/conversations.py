"""Data sets between stages: JSON lines of `{"messages": [...], "source": "file:line"}`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from residency.errors import StorageError
from residency.types import Conversation, Message

SPLITS = ("train", "validation", "test")
FROM_TRAFFIC = "traffic.jsonl"
"""Rows beside the data file that `residency data build --from traffic` leaves in the workspace."""


def message_from(value: Mapping[str, Any]) -> Message:
    """A message from OpenAI's form; keys beside `role` and `content` are kept in `extra`."""
    extra = {k: v for k, v in value.items() if k not in ("role", "content")}
    return Message(role=value["role"], content=value.get("content") or "", extra=extra)


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> None:
    """Write one conversation a line, in the order given."""
    with path.open("w", encoding="utf-8") as file:
        for one in conversations:
            row = {"messages": [m.to_dict() for m in one.messages], "source": one.source}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_conversations(path: Path) -> list[Conversation]:
    """What `write_conversations` wrote. Raises `StorageError` where the file is damaged."""
    return list(stream_conversations(path))


def stream_conversations(path: Path) -> Iterator[Conversation]:
    """The same one by one, so that a large data set needs no more memory than a small one."""
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                messages = tuple(message_from(m) for m in row["messages"])
                yield Conversation(messages=messages, source=row["source"])
    except (OSError, ValueError, KeyError) as error:
        raise StorageError(
            f"{path}: damaged data set ({error})", hint="run: residency run"
        ) from error
