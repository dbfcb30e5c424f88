"""Hand-made answers of builds, for the tests of what is made from them."""

from __future__ import annotations

from collections.abc import Sequence

from residency.gate.answers import Answer
from residency.gate.score import Kind
from residency.gate.tally import GainOf, Marked, Tally, mark, tally
from residency.types import Conversation, Message

SIZES = {"base-f16": 270, "f16": 270, "Q8_0": 145, "Q4_K_M": 98}


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
    answers = {name: [answer(text) for text in given] for name, given in texts.items()}
    return {
        name: mark(kind, name, SIZES[name] * 1_000_000, given, references, answers["f16"])
        for name, given in answers.items()
    }


def tally_all(marked: dict[str, Marked], gain_of: GainOf = "exact") -> list[Tally]:
    base, f16 = marked["base-f16"], marked["f16"]
    return [tally(one, base=base, f16=f16, gain_of=gain_of) for one in marked.values()]
