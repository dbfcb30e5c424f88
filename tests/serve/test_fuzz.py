"""Requests that nobody would write: made from the APIs' own models, and from bytes gone wrong."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import BaseModel

from residency.config import ServeSettings
from residency.serve.apis.chat import _ChatRequest
from residency.serve.apis.completions import _CompletionRequest
from residency.serve.apis.embeddings import _EmbeddingsRequest
from residency.serve.apis.messages import _CountRequest, _MessagesRequest
from residency.serve.apis.responses import _ResponsesRequest
from tests.serve.conftest import Served

Serving = Callable[..., Served]
REQUESTS: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": _ChatRequest,
    "/v1/completions": _CompletionRequest,
    "/v1/responses": _ResponsesRequest,
    "/v1/messages": _MessagesRequest,
    "/v1/messages/count_tokens": _CountRequest,
    "/v1/embeddings": _EmbeddingsRequest,
}
HANGING = 10.0
"""Seconds after which a request counts as one that hangs."""
REFUSALS = {400, 404, 408, 413, 431, 504}
"""504 where the request itself asks for an answer at once."""
Schema = Mapping[str, Any]

TEXTS = st.text(max_size=20)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)

UNSAID = {"content": TEXTS, "arguments": st.sampled_from(["{}", '{"a": [1]}', "[]", "{"])}
"""What validators want, and the schema doesn't say."""


def seldom(often: SearchStrategy[Any], rare: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.integers(0, 15).flatmap(lambda dice: rare if dice == 15 else often)


class Maker:
    """Makes bodies for the `model` of a request; where it is `wild`, not all of their parts fit."""

    def __init__(self, model: type[BaseModel], *, wild: bool) -> None:
        self._wild = wild
        self._root = model.model_json_schema()

    def body(self) -> SearchStrategy[dict[str, Any]]:
        return self._object(self._root)

    def _value(self, schema: Schema) -> SearchStrategy[Any]:
        if ref := schema.get("$ref"):
            return self._value(self._root["$defs"][ref.rsplit("/", 1)[1]])
        if either := schema.get("anyOf") or schema.get("oneOf"):
            kinds = [one for one in either if one.get("type") != "null"]
            some = st.one_of([self._value(one) for one in kinds])
            return some if kinds == either else seldom(some, st.none())
        fits = self._fitting(schema)
        return seldom(fits, JUNK) if self._wild else fits

    def _fitting(self, schema: Schema) -> SearchStrategy[Any]:
        least, most = schema.get("minimum"), schema.get("maximum")
        match schema:
            case {"const": only}:
                return st.just(only)
            case {"enum": choices}:
                return st.sampled_from(choices)
            case {"type": "null"}:
                return st.none()
            case {"type": "boolean"}:
                return st.booleans()
            case {"type": "integer"}:
                return st.integers(least, most if self._wild or most else 99)
            case {"type": "number"}:
                return st.floats(schema.get("exclusiveMinimum", least), most, exclude_min=not most)
            case {"type": "string", "pattern": pattern}:
                return st.from_regex(pattern, fullmatch=True)
            case {"type": "string"}:
                return st.text(min_size=schema.get("minLength", 0), max_size=40)
            case {"type": "array"}:
                inner = self._value(schema["items"]) if schema.get("items") else JUNK
                return st.lists(
                    inner, min_size=schema.get("minItems", 0), max_size=schema.get("maxItems", 3)
                )
            case {"type": "object"}:
                return self._object(schema)
        return JUNK

    def _object(self, schema: Schema) -> SearchStrategy[dict[str, Any]]:
        fields = {name: self._value(one) for name, one in schema.get("properties", {}).items()}
        fields |= {name: one for name, one in UNSAID.items() if name in fields}
        if not fields:
            inner = schema.get("additionalProperties")
            one = self._value(inner) if isinstance(inner, dict) else JUNK
            return st.dictionaries(TEXTS, one, max_size=3)
        required = [*schema.get("required", []), *(UNSAID.keys() & fields)]

        @st.composite
        def made(draw: st.DrawFn) -> dict[str, Any]:
            chosen = draw(st.lists(st.sampled_from(sorted(fields)), max_size=4))
            found = {name: draw(fields[name]) for name in sorted({*required, *chosen})}
            odd = st.dictionaries(TEXTS, JUNK, max_size=1)
            return found | draw(seldom(st.just({}), odd)) if self._wild else found

        return made()


def exchange(served: Served, path: str, body: bytes) -> tuple[int, bytes]:
    """Raises `TimeoutError` where an answer, or the rest of one, is not there in time."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=HANGING)
    connection.request("POST", path, body)
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


def fuzz(served: Served, path: str, examples: int) -> None:
    bodies = [Maker(REQUESTS[path], wild=wild).body() for wild in (False, True)]
    statuses: list[int] = []

    @settings(
        max_examples=examples,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.one_of(bodies), seldom(st.just(served.model), TEXTS))
    def one(body: dict[str, Any], model: str) -> None:
        body["model"] = model
        status, answer = exchange(served, path, json.dumps(body).encode())
        statuses.append(status)
        assert status == 200 or status in REFUSALS
        if status != 200:
            error = json.loads(answer)["error"]
            assert error["message"] and error["type"]

    one()
    assert len(statuses) >= examples
    assert statuses.count(200) > examples // 20  # or it explores nothing but refusals


@pytest.mark.parametrize("path", REQUESTS)
def test_no_request_breaks_it(serving: Serving, path: str) -> None:
    fuzz(serving(settings=ServeSettings(timeout=5.0), context=4096), path, 50)


@pytest.mark.slow
@pytest.mark.parametrize("path", REQUESTS)
def test_no_request_of_many_breaks_it(serving: Serving, path: str) -> None:
    fuzz(serving(settings=ServeSettings(timeout=5.0), context=4096), path, 500)


def valid(path: str) -> bytes:
    body = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "hi"}]}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: desk\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Content-Type: application/json\r\nConnection: close\r\n\r\n".encode() + body


PIECES = [b"\r\n", b"\n", b"\0", b" ", b":", b"\xff", b"\r\n\r\n", b"{", b'"', b"0\r\n\r\n"]
PIECES += [b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Expect: 100-continue\r\n"]
PIECES += [b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"HTTP/2.0", b"x" * 70_000]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid request, or two of them in a row, with some of its bytes changed, gone or added."""
    data = valid("/v1/chat/completions") * draw(st.integers(1, 2))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.integers(0, 12))
        new = draw(st.sampled_from(PIECES) | st.binary(max_size=4))
        data = data[:start] + new + data[end:]
    return data[: draw(st.integers(1, len(data)))] if draw(st.booleans()) else data


def fuzz_bytes(served: Served, examples: int) -> None:
    @settings(max_examples=examples, database=None)
    @given(mutated())
    def one(data: bytes) -> None:
        with socket.create_connection(("127.0.0.1", served.port), timeout=HANGING) as sock:
            answer = b""
            try:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: sock.recv(65_536), b""))
            except TimeoutError:
                raise
            except OSError:
                pass  # it need not hear out what is no HTTP
        if answer:
            assert answer.startswith(b"HTTP/1.1 ")
            assert int(answer[9:12]) in {100, 200, 401, 405, *REFUSALS}

    one()
    assert served.ask("still here").choices[0].message.content == "still here"


def test_no_bytes_break_it(serving: Serving, capfd: pytest.CaptureFixture[str]) -> None:
    fuzz_bytes(serving(), 100)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_no_bytes_of_many_break_it(serving: Serving, capfd: pytest.CaptureFixture[str]) -> None:
    fuzz_bytes(serving(), 1500)
    assert "Traceback" not in capfd.readouterr().err
