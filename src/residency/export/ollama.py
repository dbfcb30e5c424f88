"""A Modelfile beside a GGUF, with which Ollama asks it as it was taught.

Ollama does not run the chat template that a GGUF carries: it looks for one that it knows in a list
of its own, and where none is near it sends the bare words. So the template is written again, in
Go's syntax, where that gives the same text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.builds import MODEL_FILE
from residency.config import EngineSettings
from residency.errors import InputError, ModelError
from residency.models.chat import apply, render
from residency.types import Build, Conversation, Message, Role

FILE_NAME = "Modelfile"
_ROLES: tuple[Role, ...] = ("system", "user", "assistant", "user", "assistant", "user")
# With spaces that a template may not cut off, and a sign that none has.
_TALK = tuple(Message(role=role, content=f" \u2603{number} ") for number, role in enumerate(_ROLES))


@dataclass(frozen=True, kw_only=True, slots=True)
class Turns:
    """A chat template that puts fixed text around each message.

    `around` is what stands before and after one of that role, `unopened` what opens a talk without
    a system message, `prompt` what asks for an answer.
    """

    around: dict[str, tuple[str, str]]
    unopened: str
    prompt: str

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt for `messages`, as Ollama will make it."""
        opening = "" if messages[0].role == "system" else self.unopened
        turns = [f"{a}{m.content}{b}" for m in messages for a, b in [self.around[m.role]]]
        return opening + "".join(turns) + self.prompt

    def without(self, begin: str) -> Turns:
        """The same for an engine that writes the token `begin` itself."""
        before, after = self.around["system"]
        around = {**self.around, "system": (before.removeprefix(begin), after)}
        unopened = self.unopened.removeprefix(begin)
        return Turns(around=around, unopened=unopened, prompt=self.prompt)

    def go(self) -> str:
        """The same as a template of Go's."""
        first, *rest = (
            f'if eq .Role "{role}" }}}}{_text(before)}{{{{ .Content }}}}{_text(after)}'
            for role, (before, after) in self.around.items()
        )
        branches = "".join([f"{{{{ {first}", *(f"{{{{ else {one}" for one in rest), "{{ end }}"])
        opening = (
            f'{{{{ if ne (index .Messages 0).Role "system" }}}}{_text(self.unopened)}{{{{ end }}}}'
            if self.unopened
            else ""
        )
        return f"{opening}{{{{ range .Messages }}}}{branches}{{{{ end }}}}{_text(self.prompt)}"


def _text(literal: str) -> str:
    # JSON's escapes are all Go's too.
    return f"{{{{ {json.dumps(literal, ensure_ascii=False)} }}}}" if literal else ""


def turns(tokenizer: Any) -> Turns | None:
    """What a chat template puts around messages; None where it does more than that.

    It is tried on a talk of two questions, with a system message and without.
    """
    talks = (_TALK, _TALK[1:], _TALK[1:2])
    try:
        texts = [render(tokenizer, talk, answer=False).text for talk in talks]
        found = _taken_apart(tokenizer, texts[0], texts[1])
    except (ModelError, ValueError):
        return None
    if [found.render(talk) for talk in talks] != texts:
        return None
    begin = tokenizer("").input_ids
    return found.without(tokenizer.decode(begin)) if begin else found


def _taken_apart(tokenizer: Any, whole: str, bare: str) -> Turns:
    """Raises `ValueError` where the parts do not fit."""
    opening, *between = _split(whole, _TALK)
    after_user, after_assistant = (
        _split(apply(tokenizer, _TALK[:count], prompt=False), _TALK[:count])[-1] for count in (2, 3)
    )
    user = _less(between[2], after_assistant)
    after_system = between[0][: _end(between[0], user)]
    head = _split(bare, _TALK[1:])[0]
    return Turns(
        around={
            "system": (opening, after_system),
            "user": (user, after_user),
            "assistant": (_less(between[1], after_user), after_assistant),
        },
        unopened=head[: _end(head, user)],
        prompt=_less(between[-1], after_user),
    )


def _split(text: str, talk: Sequence[Message]) -> list[str]:
    """What stands before, between and after the messages."""
    parts = []
    for message in talk:
        before, found, text = text.partition(message.content)
        if not found:
            raise ValueError(message.content)
        parts.append(before)
    return [*parts, text]


def _less(text: str, start: str) -> str:
    if not text.startswith(start):
        raise ValueError(text)
    return text[len(start) :]


def _end(text: str, end: str) -> int:
    if not text.endswith(end):
        raise ValueError(text)
    return len(text) - len(end)


def write_modelfile(
    folder: Path, build: Build, tokenizer: Any, rows: Sequence[Conversation]
) -> None:
    """Write the `Modelfile` of a GGUF build whose training had `rows`.

    Raises `InputError` for a build in several files, which Ollama does not load.
    """
    if build.file != MODEL_FILE:
        raise InputError(
            f"{build.name}: Ollama loads no GGUF of several files",
            hint="set shard = 0, or leave ollama out of [export] also",
        )
    known = turns(tokenizer)
    lines = [f"FROM ./{build.file}"]
    if known:
        lines += [f'TEMPLATE """{known.go()}"""']
    else:
        lines += ["# This chat template cannot be written exactly in Go's syntax: Ollama looks for"]
        lines += ["# one like it, and may ask otherwise than training did."]
    lines += [f"PARAMETER stop {json.dumps(token)}" for token in build.stop_tokens]
    lines += ["PARAMETER temperature 0", f"PARAMETER num_ctx {EngineSettings().context}"]
    systems = {row.messages[0].content for row in rows if row.messages[0].role == "system"}
    if len(systems) == 1:
        lines += [f'SYSTEM """{systems.pop()}"""']
    (folder / FILE_NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")
