"""Rows for the tests of this package."""

from __future__ import annotations

from residency.types import Conversation, Message


def row(question: str, answer: str = "A", line: int = 1, system: str = "") -> Conversation:
    before = (Message(role="system", content=system),) if system else ()
    asked = Message(role="user", content=question)
    answered = Message(role="assistant", content=answer)
    return Conversation(messages=(*before, asked, answered), source=f"f:{line}")
