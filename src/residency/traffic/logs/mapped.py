"""Records of any table, whose columns the user names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from residency.errors import DataError
from residency.traffic.logs.formats import Record, exchange
from residency.traffic.logs.values import amount, count, number, opened, text
from residency.types import Exchange

FIELDS = (
    "prompt",
    "completion",
    "system",
    "model",
    "time",
    "latency",
    "prompt_tokens",
    "completion_tokens",
    "cost",
    "status",
    "key",
    "subject",
)
_TAG = "tag."


def check(columns: Mapping[str, str]) -> None:
    """Raises `DataError` for a field that an exchange does not have, and without a prompt."""
    wrong = [name for name in columns if name not in FIELDS and not name.startswith(_TAG)]
    if wrong or not columns.keys() & {"prompt", "completion"}:
        raise DataError(
            f"--map {wrong[0]}: no such field" if wrong else "--map names no prompt",
            hint=f"fields are {', '.join(FIELDS)} and tag.NAME",
        )


def read(record: Record, columns: Mapping[str, str]) -> Exchange:
    """The exchange of a row. A prompt or completion may be text or a body in JSON; latency is in
    seconds, or in ms where its column's name ends so. Raises `Bad`."""
    of = {field: record.fields.get(column) for field, column in columns.items()}
    at = columns.get("time", "")
    latency = number(of.get("latency"))
    if latency is not None and columns["latency"].lower().endswith("ms"):
        latency /= 1000
    failed = text(of.get("status")).lower() in ("error", "failed", "failure", "fail")
    labels = {name.removeprefix(_TAG): of[name] for name in of if name.startswith(_TAG)}
    return exchange(
        record,
        _request(of.get("prompt"), text(of.get("system"))),
        of.get("completion"),
        id=record.id(),
        time=record.when(at),
        model=text(of.get("model")),
        key=text(of.get("key")),
        subject=text(of.get("subject")),
        status=500 if failed else count(of.get("status")) or None,
        prompt_tokens=count(of.get("prompt_tokens")) or None,
        completion_tokens=count(of.get("completion_tokens")) or None,
        latency=None if latency is None else max(latency, 0.0),
        cost=amount(of.get("cost")),
        tags={name: value for name, value in labels.items() if value not in (None, "")},
    )


def _request(prompt: Any, system: str) -> Any:
    """The prompt under its system message."""
    if not system:
        return prompt
    whole = opened(prompt)
    messages = whole.get("messages") if isinstance(whole, dict) else whole
    if not isinstance(messages, list):
        messages = [{"role": "user", "content": text(prompt)}]
    whole = whole if isinstance(whole, dict) and "messages" in whole else {}
    return {**whole, "messages": [{"role": "system", "content": system}, *messages]}
