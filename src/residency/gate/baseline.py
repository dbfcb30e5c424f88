"""What the API answers to the test split: as it was recorded, or asked now."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from residency.config import Endpoint
from residency.conversations import message_from, tools_from
from residency.engines.remote import RemoteClient
from residency.errors import DataError, EngineError, EngineRejected
from residency.gate.answers import Answer, Asked, keep, kept
from residency.gate.ask import answer_to
from residency.gate.score import fold
from residency.progress import Progress, say
from residency.store import sha256_text
from residency.types import Conversation, Exchange, Message, calls_text

API = "api"
TRAFFIC = "traffic"
FAILURES = 3
"""After so many failures of the API in a row the rest is not asked."""
_REFUSED = (401, 403, 404)


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """The API's answers by the number of their case, and for others why there is none."""

    answers: Mapping[int, Answer] = field(default_factory=dict)
    failures: Mapping[int, str] = field(default_factory=dict)
    asked: Asked = field(default_factory=Asked)


def read_recorded(path: Path) -> list[Conversation]:
    """Conversations that end with the API's answer, as OpenAI's `messages`, one a line.

    Raises `DataError` with file and line.
    """
    found = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}", hint="see gate.recorded") from None
    for number, line in enumerate(lines, 1):
        try:
            messages = tuple(message_from(m) for m in json.loads(line)["messages"])
        except (ValueError, KeyError, TypeError, AttributeError):
            messages = ()
        if not messages or messages[-1].role != "assistant":
            raise DataError(
                f"{path}:{number}: not a conversation that ends with an answer",
                hint='each line is {"messages": [{"role": "user", "content": ...}, ...]}',
            )
        found.append(Conversation(messages=messages, source=f"{path.name}:{number}"))
    return found


def of_exchanges(exchanges: Iterable[Exchange]) -> Iterable[Conversation]:
    """The chats among `exchanges` that were answered with a text or with calls of tools."""
    for one in exchanges:
        try:
            answer = (one.response or {})["choices"][0]["message"]
            messages = tuple(message_from(m) for m in [*one.request["messages"], answer])
        except (LookupError, TypeError, AttributeError):
            continue
        if isinstance(answer.get("content"), str) or calls_text(answer.get("tool_calls")):
            tools = tools_from(one.request.get("tools")) or ()
            yield Conversation(messages=messages, source=f"exchange {one.id}", tools=tools)


def match(recorded: Iterable[Conversation], cases: Sequence[Conversation]) -> dict[int, Answer]:
    """Which case, by number, has which recorded answer: the last one to the same prompt.

    System messages don't count: an API needs other instructions than a specialist.
    """
    wanted = {prompt_key(case.prompt): number for number, case in enumerate(cases)}
    found = {}
    for one in recorded:
        if (number := wanted.get(prompt_key(one.prompt))) is not None:
            source = cases[number].source
            found[number] = Answer(source=source, text=one.answer, finish_reason="stop", tokens=0)
    return dict(sorted(found.items()))


def prompt_key(prompt: Sequence[Message]) -> tuple[tuple[str, str], ...]:
    """What two prompts have in common that ask the same."""
    return tuple((m.role, fold(str(m.said))) for m in prompt if m.role != "system")


def gather(
    recorded: Mapping[int, Answer],
    api: Endpoint | None,
    cases: Sequence[Conversation],
    max_tokens: int,
    folder: Path,
) -> Baseline:
    """The recorded answers, by the numbers of their cases, and for the other cases those of the
    live endpoint, if there is one. See `ask_api`."""
    if api is None:
        return Baseline(answers=recorded)
    rest = {n: case for n, case in enumerate(cases) if n not in recorded}
    live = ask_api(api, rest, max_tokens, folder)
    return replace(live, answers=dict(sorted({**recorded, **live.answers}.items())))


def ask_api(
    api: Endpoint, cases: Mapping[int, Conversation], max_tokens: int, folder: Path
) -> Baseline:
    """Ask the API for `cases`, by their numbers; what is answered is kept in `folder` at once.

    A case that fails has its reason, and is asked again the next time. Raises `EngineRejected`
    where our key or the model is refused.
    """
    file = folder / f"api-{sha256_text(api.url + api.model)[:8]}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    before = kept(file)
    known = {answer.source for answer in before.answers}
    rest = {n: case for n, case in cases.items() if case.source not in known}
    failures = asyncio.run(_ask(api, rest, max_tokens, file)) if rest else {}
    asked = kept(file)
    of = {answer.source: answer for answer in asked.answers}
    answers = {n: of[case.source] for n, case in cases.items() if case.source in of}
    if failures:
        say(f"the API gave no answer to {len(failures)} of {len(cases)} cases")
    return Baseline(answers=answers, failures=failures, asked=asked)


async def _ask(
    api: Endpoint, cases: Mapping[int, Conversation], max_tokens: int, file: Path
) -> dict[int, str]:
    failures: dict[int, str] = {}
    in_a_row = 0
    with (
        file.open("a", encoding="utf-8") as out,
        Progress("asking the API", len(cases)) as progress,
    ):
        async with RemoteClient(api.served, api.timeout) as client:
            for number, case in cases.items():
                if in_a_row == FAILURES:
                    failures[number] = f"not asked: the API failed {FAILURES} times in a row"
                    continue
                try:
                    keep(out, *await answer_to(client, case, max_tokens))
                    in_a_row = 0
                except EngineError as error:
                    if isinstance(error, EngineRejected) and error.status in _REFUSED:
                        raise
                    failures[number] = error.message
                    in_a_row += 1
                progress.advance()
    return failures
