"""The guards on the stream of an answer: loops, banned strings, broken JSON, silence.

A loop or a banned string ends the answer at once; JSON and silence are judged at its end. What was
found goes into `Notes.guards`; where another attempt may help, `retry_for` says how to ask again.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from residency.config import ServedModel
from residency.repetition import Detector
from residency.serve.apis import json_schema
from residency.serve.asked import Asked
from residency.serve.notes import Notes
from residency.serve.tally import Tally

Chunk = dict[str, Any]

RETRIES: Mapping[str, Mapping[str, Any]] = {
    "dry": {"dry_multiplier": 0.8, "dry_base": 1.75, "dry_allowed_length": 2},
    "temperature": {"temperature": 0.8, "seed": 4099},
}
"""How an answer that failed is asked for again. DRY is llama.cpp's sampler against repetition, with
the values that its README gives; a `repeat_penalty` wrecks the text of small models."""
_ESCALATE = "escalate"
_FAILURES = ("repetition", "empty", "invalid_json", "schema_mismatch")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What is not let through. `schema` is that of an answer in JSON, None where none was asked
    for. An answer that is not `streamed` is held until its end, so a loop is cut off whole."""

    banned: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    choices: int = 1
    streamed: bool = True


def rules_for(asked: Asked, model: ServedModel) -> Rules:
    """What the request and the settings of its model ask for."""
    return Rules(
        banned=tuple(model.banned),
        schema=_schema(asked.options.get("response_format", {})),
        choices=asked.n,
        streamed=asked.stream,
    )


def _schema(form: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if "json_schema" in form:
        schema: Mapping[str, Any] = form["json_schema"]["schema"]
        return schema
    return {"type": "object"} if form.get("type") == "json_object" else None


async def guard(chunks: AsyncGenerator[Chunk], rules: Rules, notes: Notes) -> AsyncGenerator[Chunk]:
    """The chunks of one attempt that may go out. The engine is left once every choice has ended and
    one of them was cut off; the usage is then what `Tally` knows."""
    notes.finish = notes.usage = ""
    lines = {index: _Line(rules, notes) for index in range(rules.choices)}
    tally = Tally()
    async with aclosing(chunks):
        async for chunk in chunks:
            tally.add(chunk)
            for part in chunk["choices"]:
                for one in lines[part["index"]].take(part):
                    yield {"choices": [one]}
            if usage := chunk.get("usage"):
                yield {"choices": [], "usage": usage}
            elif _is_over(lines.values()):
                yield {"choices": [], "usage": tally.usage(notes)}
                break
    for line in lines.values():
        for one in line.rest():
            yield {"choices": [one]}
        line.judge()


def _is_over(lines: Iterable[_Line]) -> bool:
    """Whether nothing more is wanted of the engine, nor its usage to be had."""
    return any(line.cut for line in lines) and all(line.ended for line in lines)


class _Line:
    """One choice of an answer. It holds the parts that may not go out yet."""

    def __init__(self, rules: Rules, notes: Notes) -> None:
        self._rules = rules
        self._notes = notes
        self._loops = Detector()
        self._banned = _Banned(rules.banned) if rules.banned else None
        self._held: list[Chunk] = []
        self._texts: list[str] = []
        self._length = 0
        self._sent = 0
        self._called = False
        self.cut = False
        self.ended = False

    def take(self, part: Chunk) -> list[Chunk]:
        """What may go out now that `part` has come."""
        if self.ended:
            return []
        self._held.append(part)
        self._called |= bool(part["delta"].get("tool_calls"))
        if text := part["delta"].get("content"):
            self._length += len(text)
            self._texts.append(text)
            if self._banned and (place := self._banned.feed(text)) is not None:
                return self._cut(place, "content_filter", "banned")
            if loop := self._loops.feed(text):
                self._notes.finish = "repetition"
                return self._cut(loop.start, "stop", f"repetition:{loop.kind}")
        self.ended = bool(part.get("finish_reason"))
        return self.rest() if self.ended else self._safe()

    def rest(self) -> list[Chunk]:
        parts, self._held = self._held, []
        return parts

    def _safe(self) -> list[Chunk]:
        if not self._rules.streamed:
            return []
        end = self._length - (self._banned.open if self._banned else 0)
        parts = []
        while self._held and self._sent + len(_text(self._held[0])) <= end:
            parts.append(self._held.pop(0))
            self._sent += len(_text(parts[-1]))
        return parts

    def _cut(self, place: int, reason: str, event: str) -> list[Chunk]:
        """The parts before `place`, and the end. Log-probabilities name tokens: of a part that is
        cut they do not go out."""
        self._notes.guards.append(event)
        self.cut = self.ended = True
        last = {"index": self._held[-1]["index"], "delta": {}, "finish_reason": reason}
        parts: list[Chunk] = []
        for part in self.rest():
            text = _text(part)
            if self._sent + len(text) <= place:
                parts.append(part)
            elif self._sent < place:
                delta = {**part["delta"], "content": text[: place - self._sent]}
                parts.append({"index": part["index"], "delta": delta, "finish_reason": None})
            self._sent += len(text)
        return [*parts, last]

    def judge(self) -> None:
        """What is wrong with the whole of it."""
        if self.cut or self._called:
            return
        text = "".join(self._texts)
        if not text.strip():
            self._notes.guards.append("empty")
        elif self._rules.schema is not None and (fault := _json_fault(text, self._rules.schema)):
            self._notes.guards.append(fault)


class _Banned:
    """Finds strings in a text that comes in pieces. `open` is the number of characters at its end
    that may still begin one."""

    def __init__(self, strings: Sequence[str]) -> None:
        folded = [_folded(one) for one in strings]
        self._any = re.compile("|".join(map(re.escape, folded)))
        self._beginnings = {one[:end] for one in folded for end in range(1, len(one))}
        self._lasts = {one[-1] for one in self._beginnings}
        self._longest = max(map(len, folded)) - 1
        self._tail = ""
        self._length = 0

    @property
    def open(self) -> int:
        return len(self._tail)

    def feed(self, piece: str) -> int | None:
        """Where in the text a banned string begins."""
        text = self._tail + _folded(piece)
        self._length += len(piece)
        if found := self._any.search(text):
            return self._length - len(text) + found.start()
        longest = min(self._longest, len(text)) if text[-1:] in self._lasts else 0
        ends = (text[-size:] for size in range(longest, 0, -1))
        self._tail = next((end for end in ends if end in self._beginnings), "")
        return None


def _folded(text: str) -> str:
    """`text` without the difference of case, character by character, so that places stay."""
    whole = text.casefold()
    if len(whole) == len(text):
        return whole
    return "".join(low if len(low := one.casefold()) == 1 else one for one in text)


def _text(part: Chunk) -> str:
    return part["delta"].get("content") or ""


def _json_fault(text: str, schema: Mapping[str, Any]) -> str:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return "invalid_json"
    fits = json_schema.validator(schema).is_valid(value)
    return "" if fits else "schema_mismatch"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def spoiled(notes: Notes) -> bool:
    """Whether the last attempt failed in a way that another may not. One that ran out of time has
    no time for another."""
    last = notes.guards[-1] if notes.guards else ""
    return last.startswith(_FAILURES) and notes.finish != "deadline"


def retry_for(notes: Notes, steps: Sequence[str] = tuple(RETRIES)) -> Mapping[str, Any] | None:
    """The options to ask a spoiled answer again with, or None: it goes to the next route.

    `steps` are the names of the `RETRIES` that the engine and the request allow, each tried once a
    route; DRY helps against repetition alone. Whichever it is, `notes` has it.
    """
    fault = notes.guards[-1]
    tried = notes.guards[::-1]
    if _ESCALATE in tried:
        tried = tried[: tried.index(_ESCALATE)]
    for name in steps:
        useful = name != "dry" or fault.startswith("repetition")
        if useful and f"retry:{name}" not in tried:
            notes.guards.append(f"retry:{name}")
            return RETRIES[name]
    notes.guards.append(_ESCALATE)
    return None
