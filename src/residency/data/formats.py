"""Training data in the forms that it comes in, recognised by content, as conversations.

A JSON file has one object a line, or one array of objects. An object is recognised by its keys:
OpenAI's `messages`, ShareGPT's `conversations`, or a pair of texts (`PAIRS`). Whatever else is
read as CSV (`residency.data.table`). `map` names the keys or columns of a pair in other words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from residency.conversations import tools_from
from residency.data.table import read_table
from residency.errors import DataError, StorageError
from residency.types import Conversation, Message, Role, Tools, arguments_of

PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("question", "answer"),
    ("input", "output"),
    ("text", "label"),
    ("text", "intent"),
    ("utterance", "intent"),
)
_CONTEXT = "input"  # alpaca's: text that the instruction is about
_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "observation": "tool",
}
_TURNS = (("messages", "role", "content"), ("conversations", "from", "value"))
_MAP_HINT = '[data] map = { prompt = "...", completion = "..." } names the columns'


@dataclass(kw_only=True, slots=True)
class Rows:
    """What a file holds: the rows that can be learnt from, and what is wrong with the others."""

    form: str = ""
    conversations: list[Conversation] = field(default_factory=list)
    problems: list[DataError] = field(default_factory=list)
    unused: set[str] = field(default_factory=set)


def read(path: Path, columns: Mapping[str, str], *, unanswered: bool = False) -> Rows:
    """All rows of `path`; `columns` is the setting `map`. With `unanswered` a row may lack its
    answer: its last message is then the assistant's, and empty.

    Raises `DataError` where the file as a whole cannot be read; a row that is wrong is among the
    result's `problems`, with its line.
    """
    _check_map(columns)
    text = _text(path)
    start = text.lstrip()[:1]
    if not start:
        raise DataError(f"{path}: the file is empty", hint="put one example on each line")
    rows = Rows()
    forms: set[str] = set()
    if start in "[{":
        records = _json_rows(path, text)
    else:
        records = _table_rows(path, text, columns, unanswered=unanswered)
    for line, record in records:
        try:
            if isinstance(record, DataError):
                raise record
            whole = _opened(record, columns) if unanswered else record
            messages, form = _messages(whole, columns, rows.unused)
            _check(messages, unanswered=unanswered)
            tools = _tools(whole.get("tools")) if form == "messages" else ()
            _check_answer(messages[-1], tools)
        except DataError as error:
            named = error.message if line == 0 else f"{path}:{line}: {error.message}"
            rows.problems.append(DataError(named, hint=error.hint))
        else:
            forms.add(form)
            source = f"{path.name}:{line}"
            rows.conversations.append(Conversation(messages=messages, source=source, tools=tools))
    rows.form = " and ".join(sorted(forms))
    return rows


def require(rows: Rows) -> list[Conversation]:
    """The conversations of `rows`. Raises its first problem, and says how many there are."""
    if rows.problems:
        first, more = rows.problems[0], len(rows.problems) - 1
        also = f" (and {more} more rows; residency data check lists them)" if more else ""
        raise DataError(first.message + also, hint=first.hint)
    return rows.conversations


def _check_map(columns: Mapping[str, str]) -> None:
    if columns and not {"prompt", "completion"} <= set(columns) <= {
        "prompt",
        "completion",
        "system",
    }:
        raise DataError(
            f"[data] map has {', '.join(sorted(columns))}",
            hint="it needs prompt and completion, and may have system; each names a column",
        )


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: not UTF-8 (byte {data[error.start]:#04x})",
            hint="save the file as UTF-8; spreadsheets call it CSV UTF-8",
        ) from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", hint="check [data] file") from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Line and object, or line and the error that stands in its place."""
    if text.lstrip().startswith("["):
        yield from _array_rows(path, text)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                yield number, _broken(error)


def _array_rows(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    decoder = json.JSONDecoder()
    at, line = text.index("[") + 1, 1
    line += text.count("\n", 0, at)
    while True:
        begin = at
        at = _skip(text, at, ", \t\r\n")
        line += text.count("\n", begin, at)
        if text[at : at + 1] == "]":
            return
        try:
            record, end = decoder.raw_decode(text, at)
        except ValueError as error:
            if at >= len(text):
                raise DataError(
                    f"{path}:{line}: the array does not end", hint="the file was cut short"
                ) from None
            message = getattr(error, "msg", error)
            at_line = getattr(error, "lineno", line)
            raise DataError(
                f"{path}:{at_line}: broken JSON: {message}", hint="mend this line"
            ) from None
        yield line, record
        line += text.count("\n", at, end)
        at = end


def _skip(text: str, at: int, what: str) -> int:
    while at < len(text) and text[at] in what:
        at += 1
    return at


def _broken(error: ValueError) -> DataError:
    column = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
    words = getattr(error, "msg", str(error))
    return DataError(f"broken JSON: {words}{column}", hint="one whole JSON object on each line")


def _table_rows(
    path: Path, text: str, columns: Mapping[str, str], *, unanswered: bool
) -> Iterator[tuple[int, dict[str, str] | DataError]]:
    header, rows = read_table(path, text)
    needs = 1 if unanswered else 2  # of a pair's columns
    wanted = list(columns.values()) or ["prompt", "completion"][:needs]
    if unanswered and columns:
        wanted.remove(columns["completion"])
    missing = [name for name in wanted if name not in header]
    if missing and (columns or not any(set(pair[:needs]) <= set(header) for pair in PAIRS)):
        raise DataError(
            f"{path}:1: no column {missing[0]!r}; there are: {', '.join(header)}", hint=_MAP_HINT
        )
    yield from rows


def _opened(record: Any, columns: Mapping[str, str]) -> Any:
    """`record` with an empty answer where it has none."""
    if not isinstance(record, dict):
        return record
    for name, role, text in () if columns else _TURNS:
        if isinstance(turns := record.get(name), list):
            last = turns[-1] if turns else None
            if isinstance(last, dict) and _ROLES.get(str(last.get(role))) == "assistant":
                return record
            return {**record, name: [*turns, {role: "assistant", text: ""}]}
    pairs = [(columns["prompt"], columns["completion"])] if columns else PAIRS
    if any(record.get(ask) and record.get(answer) is not None for ask, answer in pairs):
        return record
    missing = next((answer for ask, answer in pairs if ask in record), None)
    return record if missing is None else {**record, missing: ""}


def _messages(
    record: Any, columns: Mapping[str, str], unused: set[str]
) -> tuple[tuple[Message, ...], str]:
    """The messages of one record and the name of its form."""
    if not isinstance(record, dict):
        raise DataError(f"a JSON {type(record).__name__}, not an object", hint="see the formats")
    if isinstance(turns := record.get("messages"), list) and not columns:
        unused |= set(record) - {"messages", "tools"}
        return tuple(_message(turn, "role", "content") for turn in turns), "messages"
    if isinstance(turns := record.get("conversations"), list) and not columns:
        unused |= set(record) - {"conversations", "system"}
        system = _system(record.get("system"))
        return (*system, *(_message(turn, "from", "value") for turn in turns)), "sharegpt"
    return _pair(record, columns, unused)


def _pair(
    record: Mapping[str, Any], columns: Mapping[str, str], unused: set[str]
) -> tuple[tuple[Message, ...], str]:
    if columns:
        ask, answer = columns["prompt"], columns["completion"]
    else:
        found = (pair for pair in PAIRS if set(pair) <= set(record))
        ask, answer = next(found, ("", ""))
    if ask not in record or answer not in record:
        raise DataError(
            f"unknown form, with the keys {', '.join(map(str, record))}", hint=_MAP_HINT
        )
    system = columns.get("system", "system")
    context = _CONTEXT if not columns and ask in ("instruction", "question") else ""
    unused |= set(record) - {ask, answer, system, context}
    prompt = _string(record, ask).strip()
    if extra := _string(record, context).strip() if context in record else "":
        prompt = f"{prompt}\n\n{extra}"
    messages = (
        *_system(record.get(system)),
        Message(role="user", content=prompt),
        Message(role="assistant", content=_string(record, answer).strip()),
    )
    return messages, "alpaca" if ask == "instruction" else f"{ask}/{answer}"


def _string(record: Mapping[str, Any], key: str) -> str:
    value = record[key]
    if not isinstance(value, str):
        kind = "empty" if value is None else f"a JSON {type(value).__name__}, not text"
        hint = "write the answer as it is to be given, JSON as a string too"
        raise DataError(f"{key} is {kind}", hint=hint)
    return value


def _system(value: Any) -> tuple[Message, ...]:
    text = value.strip() if isinstance(value, str) else ""
    return (Message(role="system", content=text),) if text else ()


def _message(turn: Any, role_key: str, text_key: str) -> Message:
    if not isinstance(turn, dict) or role_key not in turn:
        raise DataError(f"a message without {role_key!r}", hint="each message has role and text")
    role = _ROLES.get(str(turn[role_key]))
    if role is None:
        raise DataError(
            f"unknown role {turn[role_key]!r}", hint=f"known: {', '.join(dict.fromkeys(_ROLES))}"
        )
    kept = ("tool_calls", "tool_call_id", "name")
    extra = {key: turn[key] for key in kept if turn.get(key)}
    if "tool_calls" in extra:
        extra["tool_calls"] = _calls(extra["tool_calls"])
    return Message(role=role, content=_content(turn.get(text_key)).strip(), extra=extra)


def _calls(value: Any) -> list[dict[str, Any]]:
    """Calls of tools as OpenAI's API writes them, which engines want: arguments as JSON in text."""
    calls = []
    for call in tools_from(value) or [{"function": {"arguments": None}}]:
        function = call["function"]
        given = arguments_of(function)
        if not isinstance(given, dict):
            raise DataError(
                "a tool call without the name of its function, or whose arguments are no object",
                hint='{"id": "1", "type": "function", "function": {"name": "...", "arguments": '
                '"{...}"}}',
            )
        text = function.get("arguments", "{}")
        text = text if isinstance(text, str) else json.dumps(given, ensure_ascii=False)
        calls.append({**call, "function": {**function, "arguments": text}})
    return calls


def _check_answer(answer: Message, tools: Tools) -> None:
    """An engine reads a call in an answer only where it was asked with the tool."""
    known = [tool["function"]["name"] for tool in tools]
    for call in answer.extra.get("tool_calls", ()):
        if (name := call["function"]["name"]) not in known:
            raise DataError(
                f"the answer calls {name!r}, which is not among the row's tools",
                hint='"tools" beside "messages" defines the functions that may be called',
            )


def _tools(value: Any) -> Tools:
    found = tools_from(value)
    if found is None:
        raise DataError(
            "tools is not a list of functions as OpenAI's API takes it",
            hint='[{"type": "function", "function": {"name": "...", "parameters": {...}}}]',
        )
    return found


def _content(value: Any) -> str:
    """A message's text; OpenAI writes it as a string, as parts, or as nothing beside a call."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list) and all(
        isinstance(p, dict) and p.get("type") == "text" for p in value
    ):
        return "".join(str(part.get("text", "")) for part in value)
    raise DataError("a message's content is not text", hint="pictures and sound cannot be learnt")


def _check(messages: tuple[Message, ...], *, unanswered: bool) -> None:
    if not messages or messages[-1].role != "assistant":
        last = messages[-1].role if messages else "none"
        raise DataError(
            f"the last message is not the assistant's (its role: {last})",
            hint="the last message is the answer to learn",
        )
    if not messages[-1].said and not unanswered:
        raise DataError("the answer is empty", hint="write the answer, or delete the row")
    if not any(m.role == "user" and m.content for m in messages):
        raise DataError("no user message has text", hint="write the question, or delete the row")
