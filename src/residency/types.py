"""The values that cross stages. All are frozen; all round-trip through `to_json`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
Method = Literal["lora", "qlora", "full", "distill", "scratch"]
"""How a model is trained."""
Level = Literal["bf16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M", "Q2_K"]
"""llama.cpp's names of what weights are quantized to."""
Tools = Sequence[Mapping[str, Any]]
"""The definitions of functions that OpenAI's API takes beside messages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One OpenAI chat message. `extra` holds tool calls and the like, untouched."""

    role: Role
    content: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The message as OpenAI's API writes it."""
        return {"role": self.role, "content": self.content, **self.extra}

    @property
    def said(self) -> str:
        """What it says as a text that can be compared: its content, or its calls of tools."""
        return calls_text(self.extra.get("tool_calls")) or self.content


def calls_text(calls: Any) -> str:
    """Calls of tools, in OpenAI's form, as one flat JSON object: the names of the tools, and each
    argument under its tool's name, so that they are compared by name and by argument. Empty where
    there are none."""
    fields: dict[str, Any] = {}
    listed = calls if isinstance(calls, list | tuple) else ()
    for number, call in enumerate((c for c in listed if isinstance(c, Mapping)), 1):
        function = call.get("function")
        function = function if isinstance(function, Mapping) else {}
        place = "" if number == 1 else f" {number}"
        name, given = str(function.get("name", "")), arguments_of(function)
        fields[f"tool{place}"] = name
        each = sorted(given.items()) if isinstance(given, Mapping) else [("arguments", given)]
        fields |= {f"{name}{place}.{key}": value for key, value in each}
    return json.dumps(fields, ensure_ascii=False) if fields else ""


def is_call(text: str) -> bool:
    """Whether `text` is what `calls_text` makes."""
    return text.startswith('{"tool": "')


def arguments_of(function: Mapping[str, Any]) -> Any:
    """A call's arguments as an object: OpenAI's API writes them as JSON in a string. What is no
    JSON stays what it is."""
    given = function.get("arguments", "{}")
    try:
        return json.loads(given)
    except (ValueError, TypeError):
        return given


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """Chat messages whose last one is the answer to learn. `source` is `file:line`."""

    messages: tuple[Message, ...]
    source: str
    tools: Tools = ()

    @property
    def prompt(self) -> tuple[Message, ...]:
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        return self.messages[-1].said

    @property
    def question(self) -> str:
        """The last user message: what near-duplicates are looked for in."""
        return next((m.content for m in reversed(self.prompt) if m.role == "user"), "")

    @property
    def spoken(self) -> bool:
        """Whether the answer is text: each engine writes a call of a tool in its own way."""
        return "tool_calls" not in self.messages[-1].extra

    def in_words(self) -> Conversation:
        """The same with calls of tools at its end as the text that they are compared by."""
        answer = Message(role="assistant", content=self.answer)
        return dataclasses.replace(self, messages=(*self.prompt, answer))

    def with_system(self, system: str) -> Conversation:
        """The same conversation, opened by `system` unless it already has a system message."""
        return dataclasses.replace(self, messages=with_system(self.messages, system))


def with_system(messages: Sequence[Message], system: str) -> tuple[Message, ...]:
    """`messages` opened by `system`, unless they have a system message or `system` is empty.

    Data preparation, the gate and the gateway all call this, so that a specialist is asked as it
    was taught.
    """
    if not system or any(m.role == "system" for m in messages):
        return tuple(messages)
    return (Message(role="system", content=system), *messages)


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """One call of a model: what was asked, what came back, and what it took.

    `time` is when the request came, in seconds since 1970; `latency` and `ttft` (to the first
    token; None where none came) are in seconds; `cost` is money in the settings' currency. `model`
    is the one asked for, `build` what answered. `key` is the name of the caller's key, `subject`
    the person whom the call is about (OpenAI's `user`), by which it can be erased. `request` and
    `response` are bodies as the API writes them; `error` is a failure's code, empty on success.
    """

    id: str
    time: float
    api: str
    model: str
    build: str = ""
    key: str = ""
    subject: str = ""
    request: Mapping[str, Any]
    response: Mapping[str, Any] | None = None
    status: int
    error: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency: float
    ttft: float | None = None
    cost: float = 0.0
    tags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Category:
    """Calls that ask the same kind of thing. Money in the log's currency, latency in seconds.

    `alike` (0..1) is how alike its answers are: where they hardly vary it is easy to learn; None
    where too few are there to tell. `tags` counts the log's own tags among its calls.
    """

    name: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    p50: float | None
    p95: float | None
    errors: int
    alike: float | None
    examples: tuple[str, ...]
    tags: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrafficReport:
    """What a log asks an API, in categories, the largest first.

    `first` and `last` are the times of its calls, in seconds since 1970. `models` counts calls by
    the model asked, `personal` calls by the kind of personal data that patterns found in them.
    """

    first: float
    last: float
    total: Category
    categories: tuple[Category, ...]
    models: Mapping[str, int]
    personal: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """A folder in the store: where it is, what it is, and the digest of its bytes."""

    path: Path
    kind: str
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What made an artifact. Written last and atomically: it exists when the stage has finished.

    `key` identifies the work (stage, inputs, settings, code); `inputs` maps a name to a digest;
    `outputs` maps a name to `{"kind", "digest"}`; `figures` are what the stage measured.
    """

    format: int = 1
    stage: str
    key: str
    status: str = "done"
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    seed: int
    started: str
    seconds: float
    figures: Mapping[str, Any]
    outputs: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """A figure with its 95% interval over `n` cases; a proportion unless it says otherwise."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Build:
    """One deployable form of a model.

    `size` in bytes; `digest` is the SHA-256 of `file`; `stop_tokens` are token strings;
    `template_digest` is the SHA-256 of the chat template; `fingerprint` is the digest of its
    `residency.fingerprint.Fingerprint`.
    """

    name: str
    format: str
    file: str
    size: int
    digest: str
    template_digest: str
    stop_tokens: tuple[str, ...]
    fingerprint: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Whether a build may ship: the rule that decided, in words, and the figures with intervals."""

    build: str
    passed: bool
    rule: str
    figures: Mapping[str, Rate]


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """What is let out: a build, how the engine is to run it, and the verdict that let it out."""

    name: str
    model: str
    base: str
    build: Build
    artifact: str
    system: str
    max_tokens: int
    context: int
    verdict: Verdict
    gate_key: str
    created: str


def to_dict(value: Any) -> Any:
    """A dataclass (or a container of them) as plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_dict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_dict(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def to_json(value: Any, *, indent: int | None = None) -> str:
    """JSON text with sorted keys, so that equal values have equal bytes."""
    return json.dumps(to_dict(value), ensure_ascii=False, sort_keys=True, indent=indent)
