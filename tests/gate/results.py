"""Hand-made answers of builds, for the tests of what is made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from residency.config import GateSettings
from residency.gate import similar
from residency.gate.answers import Answer, Speed
from residency.gate.rules import Rules
from residency.gate.score import Kind
from residency.gate.tally import Main, Marked, Tally, mark, tally_all
from residency.types import Conversation, Message

SIZES = {"base-f16": 270, "f16": 270, "Q8_0": 145, "Q4_K_M": 98, "api": 0}
SPEED = Speed(tokens_per_second=71.5, ttft=0.05, p50=0.25, p95=12.5, memory=8 * 10**8, load=1.5)


def answer(text: str, *, finish_reason: str = "stop", tokens: int = 4) -> Answer:
    return Answer(source="x:1", text=text, finish_reason=finish_reason, tokens=tokens)


def conversation(question: str, reply: str, *, line: int = 1) -> Conversation:
    messages = (
        Message(role="system", content="Clinic desk."),
        Message(role="user", content=question),
        Message(role="assistant", content=reply),
    )
    return Conversation(messages=messages, source=f"desk.jsonl:{line}")


def mark_all(
    kind: Kind, references: Sequence[str], texts: dict[str, Sequence[str]]
) -> dict[str, Marked]:
    """Marked builds from their texts, in the order given; `f16` must be among them."""
    answers = {
        name: {n: answer(text) for n, text in enumerate(given)} for name, given in texts.items()
    }
    same = similar.load(None)
    return {
        name: mark(kind, same, name, SIZES[name] * 1_000_000, references, given, answers)
        for name, given in answers.items()
    }


def rules_of(kind: Kind, **settings: Any) -> Rules:
    return Rules(settings=GateSettings(**settings), kind=kind)


def tally_of(
    kind: Kind,
    references: Sequence[str],
    texts: dict[str, Sequence[str]],
    main: Main = "exact",
    faults: Mapping[str, str] | None = None,
) -> list[Tally]:
    return tally_all(kind, mark_all(kind, references, texts), references, main, faults or {})
