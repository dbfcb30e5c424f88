"""The formats of logs, each recognised by its keys and read as an exchange.

Field names are those of LiteLLM's StandardLoggingPayload and spend logs, Langfuse's blob storage
and API exports, Helicone's export tool, NVIDIA's data flywheel, OpenAI's Batch API and stored
completions, and of the gateway's own record.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from residency.traffic.logs import bodies
from residency.traffic.logs.values import (
    Bad,
    amount,
    count,
    first,
    mapping,
    number,
    opened,
    seconds,
    text,
)
from residency.types import Exchange

_OWN = frozenset(field.name for field in dataclasses.fields(Exchange))
_OWN_NEEDS = {"id", "time", "api", "model", "request", "status", "latency"}
_ANSWER_KEYS = {"choices", "usage", "id", "object", "created", "system_fingerprint", "service_tier"}
_LONGEST_ID = 200  # a key of an index


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a log: its fields, its bytes, and the time of what has none of its own."""

    fields: Mapping[str, Any]
    raw: bytes
    time: float

    def id(self, *names: str) -> str:
        """The record's own id, else the SHA-256 of its content, so that it is known again."""
        own = text(first(self.fields, *names))
        return own if 0 < len(own) <= _LONGEST_ID else hashlib.sha256(self.raw).hexdigest()

    def when(self, *names: str) -> float | None:
        """Raises `Bad` for what is there but is no time."""
        if (value := first(self.fields, *names)) is None:
            return None
        if (found := seconds(value)) is None:
            raise Bad(f"{next(n for n in names if n in self.fields)} is no time")
        return found

    def took(self, start: float | None, end: float | None) -> float | None:
        return None if start is None or end is None else max(end - start, 0.0)


def exchange(record: Record, request: Any, response: Any, **facts: Any) -> Exchange:
    """What all formats have in common; of `facts`, the fields of an exchange that the log itself
    names, those that are None or empty are looked for in the bodies.

    A latency that is not known is 0. Raises `Bad` where there is neither a request nor a response.
    """
    known = {name: value for name, value in facts.items() if value not in (None, "")}
    response = opened(response)
    api, answer = bodies.answered(response)
    asked_api, asked = bodies.asked(request, api)
    error = known.get("error") or bodies.failure(response)
    if not asked and answer is None and not error:
        raise Bad("neither a request nor a response")
    of = answer or {}
    prompt, completion = bodies.used(of.get("usage"))
    status = count(known.get("status") or mapping(response).get("status_code"))
    metadata = mapping(asked.get("metadata"))
    values: dict[str, Any] = {
        "time": seconds(first(of, "created", "created_at")) or record.time,
        "api": api or asked_api or "chat",
        "model": text(asked.get("model")) or text(of.get("model")),
        "build": text(of.get("model")),
        "subject": text(first(asked, "user", "safety_identifier") or metadata.get("user_id")),
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "latency": 0.0,
        "tags": {},
    }
    values |= known
    values["status"] = status if 100 <= status < 600 else 500 if error else 200
    values["error"] = error or ("error" if values["status"] >= 400 else "")
    values["tags"] = {**tags(metadata), **values["tags"]}
    return Exchange(request=asked, response=answer, **values)


def tags(value: Any) -> dict[str, Any]:
    """What metadata says in plain values and in lists of them."""
    if not value:
        return {}
    return {k: v for k, v in mapping(value).items() if _plain(v) and k != "personal"}


def _plain(value: Any) -> bool:
    """Whether it is a value to count calls by, and there is one."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, str | int | float) for one in value)
    return isinstance(value, str | int | float) and value != ""


def own(record: Record) -> Exchange:
    """The gateway's record, as `to_json` writes it."""
    of = record.fields
    time, status = seconds(of.get("time")), number(of.get("status"))
    if time is None or status is None or not 100 <= status < 600:
        raise Bad("time or status is none")
    if not isinstance(of.get("request"), dict):
        raise Bad("request is no object")
    ttft = number(of.get("ttft"))
    names = ("api", "model", "build", "key", "subject", "error")
    return Exchange(
        id=record.id("id"),
        time=time,
        request=of["request"],
        response=mapping(of.get("response")) or None,
        status=int(status),
        prompt_tokens=count(of.get("prompt_tokens")),
        completion_tokens=count(of.get("completion_tokens")),
        latency=amount(of.get("latency")),
        ttft=None if ttft is None else max(ttft, 0.0),
        cost=amount(of.get("cost")),
        tags=mapping(of.get("tags")),
        **{name: text(of.get(name)) for name in names},
    )


def litellm(record: Record) -> Exchange:
    of = record.fields
    metadata = mapping(of.get("metadata"))
    start, end = record.when("startTime"), record.when("endTime")
    begun = record.when("completionStartTime")
    failed = text(of.get("status")) == "failure" or bool(of.get("error_str"))
    info = mapping(first(of, "error_information") or metadata.get("error_information"))
    options = mapping(of.get("model_parameters"))
    messages = opened(of.get("messages"))
    request = mapping(of.get("proxy_server_request")) or messages
    if messages and isinstance(messages, list | str):
        request = {**options, **mapping(request), "messages": messages}
        if isinstance(messages, str):
            request["messages"] = [{"role": "user", "content": messages}]
    also = {**tags(metadata.get("requester_metadata")), **tags(metadata.get("spend_logs_metadata"))}
    if labels := opened(of.get("request_tags")):
        also |= tags({"tags": labels})
    return exchange(
        record,
        request,
        None if failed else of.get("response"),
        id=record.id("id", "request_id"),
        time=start,
        model=text(first(of, "model_group", "model")),
        build=text(of.get("model")),
        key=text(first(metadata, "user_api_key_alias", "user_api_key_hash")),
        subject=text(of.get("end_user")),
        status=(count(info.get("error_code")) or 500) if failed else 200,
        error=bodies.code(first(info, "error_class", "error_code") or "error") if failed else "",
        prompt_tokens=count(of.get("prompt_tokens")) or None,
        completion_tokens=count(of.get("completion_tokens")) or None,
        latency=record.took(start, end) or number(of.get("response_time")),
        ttft=record.took(start, begun) if of.get("stream") or begun != end else None,
        cost=amount(first(of, "response_cost", "spend")),
        tags=also,
    )


def langfuse(record: Record) -> Exchange | None:
    """None for an observation that is no call of a model."""
    of = record.fields
    if text(of.get("type")).upper() not in ("GENERATION", ""):
        return None
    start, end = record.when("start_time", "startTime"), record.when("end_time", "endTime")
    begun = record.when("completion_start_time", "completionStartTime")
    prompt, completion = bodies.used(first(of, "usage_details", "usageDetails", "usage"))
    failed = text(of.get("level")) == "ERROR"
    labels = {
        "name": first(of, "name"),
        "trace_name": first(of, "trace_name", "traceName"),
        "tags": opened(of.get("tags")),
    }
    request = _with_options(of.get("input"), first(of, "model_parameters", "modelParameters"))
    costs = mapping(first(of, "cost_details", "costDetails"))
    cost = first(of, "total_cost", "totalCost", "calculatedTotalCost", "calculated_total_cost")
    return exchange(
        record,
        request,
        of.get("output"),
        id=record.id("id"),
        time=start,
        model=text(first(of, "provided_model_name", "model", "providedModelName")),
        subject=text(first(of, "user_id", "userId")),
        status=500 if failed else 200,
        error="error" if failed else "",
        prompt_tokens=prompt or count(first(of, "promptTokens", "inputTokens")) or None,
        completion_tokens=completion
        or count(first(of, "completionTokens", "outputTokens"))
        or None,
        latency=record.took(start, end) or number(of.get("latency")),
        ttft=record.took(start, begun)
        or number(first(of, "time_to_first_token", "timeToFirstToken")),
        cost=amount(cost if cost is not None else costs.get("total")),
        tags={**tags(of.get("metadata")), **tags(labels)},
    )


def _with_options(request: Any, options: Any) -> Any:
    """A request whose options the log keeps beside its messages."""
    request = opened(request)
    if isinstance(request, list) and mapping(options):
        return {**mapping(options), "messages": request}
    return request


def helicone(record: Record) -> Exchange:
    of = record.fields
    start = record.when("request_created_at", "created_at")
    end = record.when("response_created_at")
    delay = number(first(of, "delay_ms", "latency"))
    ttft = number(of.get("time_to_first_token"))
    status = count(first(of, "response_status", "status"))
    return exchange(
        record,
        of.get("request_body"),
        of.get("response_body"),
        id=record.id("request_id", "response_id"),
        time=start,
        model=text(first(of, "request_model", "model", "response_model")),
        build=text(of.get("response_model")),
        subject=text(first(of, "request_user_id", "helicone_user", "user_id")),
        status=status if status > 0 else None,
        prompt_tokens=count(of.get("prompt_tokens")) or None,
        completion_tokens=count(of.get("completion_tokens")) or None,
        latency=record.took(start, end) if delay is None else max(delay / 1000, 0.0),
        ttft=ttft / 1000 if ttft and ttft > 0 else None,
        cost=amount(first(of, "cost", "costUSD", "cost_usd")),
        tags=tags(first(of, "request_properties", "properties")),
    )


def batch(record: Record) -> Exchange:
    """A line of a batch's results, of its requests, or both in one. `custom_id` is unique in its
    batch only."""
    of = record.fields
    error = mapping(of.get("error"))
    return exchange(
        record,
        first(of, "body", "request"),
        of.get("response"),
        id=record.id("id"),
        status=count(mapping(of.get("response")).get("status_code")) or None,
        error=bodies.code(error.get("code")) if error else "",
    )


def pair(record: Record) -> Exchange:
    """A request with its response, as NVIDIA's data flywheel and many own loggers keep them."""
    of = record.fields
    metadata = mapping(of.get("metadata"))
    start = record.when("timestamp", "time", "created_at", "created", "start_time", "request_time")
    end = record.when("end_time", "response_time")
    took = number(first(of, "latency", "duration", "latency_s"))
    if (ms := number(first(of, "latency_ms", "duration_ms"))) is not None:
        took = ms / 1000
    labels = {name: of[name] for name in ("workload_id", "client_id", "tags") if name in of}
    error = of.get("error")
    return exchange(
        record,
        of.get("request"),
        of.get("response"),
        id=record.id("id", "request_id"),
        time=start,
        model=text(of.get("model")),
        key=text(first(of, "key_name", "api_key_name")),
        subject=text(first(of, "user", "user_id", "subject")),
        status=count(first(of, "status", "status_code")) or None,
        error=bodies.failure({"error": error}) if error else "",
        prompt_tokens=count(of.get("prompt_tokens")) or None,
        completion_tokens=count(of.get("completion_tokens")) or None,
        latency=record.took(start, end) if took is None else max(took, 0.0),
        cost=amount(first(of, "cost", "cost_usd", "response_cost")),
        tags={**tags(metadata), **tags(labels), **tags(of.get("tags"))},
    )


def flat(record: Record) -> Exchange:
    """A request and its response in one object, as stored completions are exported; the answer may
    be the last message."""
    of = record.fields
    response = {k: v for k, v in of.items() if k in _ANSWER_KEYS | {"model"}}
    request = {k: v for k, v in of.items() if k not in _ANSWER_KEYS}
    messages = of.get("messages")
    if "choices" not in of:
        response = {}
        if (
            isinstance(messages, list)
            and mapping(messages[-1] if messages else 0).get("role") == "assistant"
        ):
            request["messages"], answer = messages[:-1], messages[-1]
            response = {"choices": [{"index": 0, "message": answer}], "usage": of.get("usage")}
    asked = {k: v for k, v in request.items() if k not in ("metadata", "model")}
    return exchange(
        record,
        {**request} if asked else {},
        response,
        id=record.id("request_id", "id") if "choices" in of else record.id(),
        time=record.when("timestamp", "created", "created_at", "time"),
        tags=tags(of.get("metadata")),
    )


_READERS: dict[str, Callable[[Record], Exchange | None]] = {
    "residency": own,
    "litellm": litellm,
    "langfuse": langfuse,
    "helicone": helicone,
    "batch": batch,
    "pair": pair,
    "flat": flat,
}


def recognise(fields: Mapping[str, Any]) -> str:
    """The name of the format that a record with these keys has, empty where it has none."""
    keys = fields.keys()
    if keys >= _OWN_NEEDS and keys <= _OWN:
        return "residency"
    if "call_type" in keys and keys & {"startTime", "response_cost", "spend"}:
        return "litellm"
    if keys & {"traceId", "trace_id", "provided_model_name"} and keys & {"startTime", "start_time"}:
        return "langfuse"
    if keys & {"request_created_at", "request_body", "response_body", "request_properties"}:
        return "helicone"
    if "custom_id" in keys:
        return "batch"
    if keys & {"request", "response"}:
        return "pair"
    return "flat" if keys & {"messages", "choices"} else ""


def read(name: str, record: Record) -> Exchange | None:
    """The exchange of a record in the format `name`; None for one that is no call of a model.
    Raises `Bad`."""
    return _READERS[name](record)
