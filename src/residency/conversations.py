"""Data sets between stages: JSON lines of `{"messages": [...], "source": "file:line"}`, and `tools`
beside them where a conversation has some."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from residency.errors import StorageError
from residency.types import Conversation, Message, Tools

SPLITS = ("train", "validation", "test")
FROM_TRAFFIC = "traffic.jsonl"
"""Rows beside the data file that `residency data build --from traffic` leaves in the workspace."""


def message_from(value: Mapping[str, Any]) -> Message:
    """A message from OpenAI's form; keys beside `role` and `content` are kept in `extra`."""
    extra = {k: v for k, v in value.items() if k not in ("role", "content")}
    return Message(role=value["role"], content=value.get("content") or "", extra=extra)


def tools_from(value: Any) -> Tools | None:
    """The definitions of tools, or calls of them, in OpenAI's form; None for anything else."""
    if not value:
        return ()
    listed: Sequence[Any] = value if isinstance(value, list | tuple) else [None]
    functions = [one.get("function") if isinstance(one, Mapping) else None for one in listed]
    named = all(isinstance(f, Mapping) and isinstance(f.get("name"), str) for f in functions)
    return tuple(listed) if named else None


def row_of(one: Conversation) -> dict[str, Any]:
    """A conversation as a row of a file in OpenAI's form; without tools it has no such key."""
    messages = {"messages": [message.to_dict() for message in one.messages]}
    return {**messages, "tools": list(one.tools)} if one.tools else messages


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> None:
    """Write one conversation a line, in the order given."""
    with path.open("w", encoding="utf-8") as file:
        for one in conversations:
            row = {**row_of(one), "source": one.source}
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
                tools = tuple(row.get("tools", ()))
                yield Conversation(messages=messages, source=row["source"], tools=tools)
    except (OSError, ValueError, KeyError) as error:
        raise StorageError(
            f"{path}: damaged data set ({error})", hint="run: residency run"
        ) from error
