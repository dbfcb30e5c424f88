"""A small server that speaks every dialect, and answers with the chunks that it is given."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anthropic
import openai
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from residency.serve.answer import Answer, Identity, identity
from residency.serve.apis import DIALECTS
from residency.serve.apis.dialect import Dialect
from residency.serve.asked import Asked
from residency.serve.errors import Fault, RequestError, fault_of

USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 2,
    "total_tokens": 9,
    "prompt_tokens_details": {"cached_tokens": 4},
}
BROKEN = Fault(
    status=503, party="engine", type="server_error", code="engine_unavailable", message="it died"
)


def part(delta: dict[str, Any], *, index: int = 0, finish: str | None = None, **more: Any) -> Any:
    """A chunk as llama.cpp sends it, with fields that must not get out."""
    choice = {"finish_reason": finish, "index": index, "delta": delta, **more}
    return {"id": "engine", "model": "engine", "timings": {"ms": 3.0}, "choices": [choice]}


def said(*words: str, finish: str = "stop", index: int = 0, usage: Any = USAGE) -> list[Any]:
    """The chunks of a text."""
    return [
        part({"role": "assistant", "content": None}, index=index),
        *(part({"content": word}, index=index) for word in words),
        part({}, index=index, finish=finish),
        {"id": "engine", "choices": [], "usage": usage},
    ]


def called(index: int, name: str, *pieces: str) -> list[Any]:
    """The chunks of a call of a function, without its end."""
    opened = {"name": name, "arguments": ""}
    head = {"index": index, "id": f"call_{index}", "type": "function", "function": opened}
    rest = ({"index": index, "function": {"arguments": piece}} for piece in pieces)
    return [part({"tool_calls": [call]}) for call in (head, *rest)]


def likely(token: str) -> dict[str, Any]:
    """The log-probabilities of a chunk of one token, with llama.cpp's own ids."""
    alike = [{"id": n, "token": t, "bytes": [1], "logprob": -n} for n, t in enumerate((token, "b"))]
    return {"content": [{**alike[0], "top_logprobs": alike}]}


@dataclass
class Speaking:
    """`chunks` are what it answers with; with `broken` a stream ends with that failure."""

    chunks: list[Any] = field(default_factory=lambda: said("Hel", "lo"))
    facts: dict[str, Any] = field(default_factory=dict)
    broken: bool = False
    asked: Asked | None = None

    def app(self) -> Starlette:
        return Starlette(routes=[Route(d.path, self._of(d), methods=["POST"]) for d in DIALECTS])

    def _of(self, dialect: Dialect) -> Any:
        async def endpoint(request: Request) -> Response:
            try:
                asked = self.asked = dialect.parse(await request.body())
            except RequestError as error:
                fault = fault_of(error)
                return JSONResponse(dialect.error(fault), status_code=fault.status)
            who = identity(dialect.prefix + "1", model=asked.model, build="0123456789abcdef")
            if asked.stream:
                events = self._events(dialect, asked, who)
                return StreamingResponse(events, media_type="text/event-stream")
            answer = Answer()
            for chunk in self.chunks:
                answer.add(chunk)
            return JSONResponse(dialect.whole(asked, who, answer, self.facts))

        return endpoint

    def _events(self, dialect: Dialect, asked: Asked, who: Identity) -> Iterator[bytes]:
        answer = Answer()
        writer = dialect.writer(asked, who, answer)
        yield writer.first()
        for chunk in self.chunks:
            answer.add(chunk)
            yield writer.chunk(chunk)
        yield writer.broken(BROKEN) if self.broken else writer.last(self.facts)

    @contextmanager
    def _http(self) -> Iterator[Any]:
        with TestClient(self.app()) as http:
            yield http

    @contextmanager
    def openai(self) -> Iterator[openai.OpenAI]:
        with self._http() as http:
            yield openai.OpenAI(
                base_url="http://testserver/v1", api_key="k", http_client=http, max_retries=0
            )

    @contextmanager
    def anthropic(self) -> Iterator[anthropic.Anthropic]:
        with self._http() as http:
            yield anthropic.Anthropic(
                base_url="http://testserver", api_key="k", http_client=http, max_retries=0
            )

    def post(self, path: str, **body: Any) -> Any:
        """The parsed body of a plain answer, or the events of a stream as (name, data)."""
        with self._http() as http:
            response = http.post(path, json={"model": "m", **body})
            return events(response.text) if body.get("stream") else response.json()


def events(text: str) -> list[tuple[str, Any]]:
    """The server-sent events in `text`; `[DONE]` is None."""
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        data = lines["data"]
        found.append((lines.get("event", ""), None if data == "[DONE]" else json.loads(data)))
    return found


def strictly(model: type[BaseModel], data: Any) -> Any:
    """`data` as the official `model`: every field of its type, and none besides."""
    found = model.model_validate_json(json.dumps(data), strict=True)
    assert not list(_extras(found))
    return found


def _extras(value: Any) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from (name for name in value.model_extra or () if name not in ALLOWED)
        for name in value.__class__.model_fields:
            yield from _extras(getattr(value, name))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _extras(one)


ALLOWED: Sequence[str] = ("residency", "store")
"""Fields of ours, and what is in OpenAI's published schema but not in its client's types."""
