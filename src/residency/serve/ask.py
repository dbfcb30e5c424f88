"""A small client for `residency ask` and `residency chat`: plain sockets, nothing to import."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from residency.errors import EngineError, EngineRejected, EngineUnavailable, InputError

KEY_VARIABLE = "RESIDENCY_API_KEY"
ANSWER_SECONDS = 300.0
LOOK_SECONDS = 10.0


def ask(
    url: str, messages: Sequence[Mapping[str, Any]], *, model: str, stream: bool = True
) -> Generator[str]:
    """The answer's text, in pieces as it is written, or whole when `stream` is false.

    `url` is the endpoint's root, with or without `/v1`; `messages` are OpenAI's; an endpoint that
    asks for keys is given that of the environment variable `RESIDENCY_API_KEY`. Closing the
    generator early closes the connection, which stops the work. Raises `InputError` where nothing
    answers at `url`, `EngineRejected` with the endpoint's reason, and `EngineError` when an answer
    breaks off.
    """
    body = {"model": model, "messages": list(messages), "stream": stream}
    with _request(url, "POST", "/v1/chat/completions", body) as response:
        if stream:
            yield from _texts(response)
        else:
            yield json.load(response)["choices"][0]["message"]["content"] or ""


def models(url: str) -> list[str]:
    """The names of the models that `url` serves. Raises as `ask` does."""
    try:
        return [one["id"] for one in _seen(url, "/v1/models")["data"]]
    except (ValueError, KeyError, TypeError):
        raise EngineError(f"what answers at {url} does not speak OpenAI's API") from None


def snapshot(url: str) -> dict[str, Any]:
    """What the gateway at `url` tells of itself (`watch.observer.Observer.snapshot`). Raises as
    `ask` does."""
    try:
        found = _seen(url, "/v1/residency/watch")
        return {**found, "windows": found["windows"]}
    except (ValueError, KeyError, TypeError):
        raise EngineError(f"what answers at {url} is no gateway of residency") from None


def _seen(url: str, path: str) -> Any:
    with _request(url, "GET", path, seconds=LOOK_SECONDS) as response:
        return json.load(response)


@contextlib.contextmanager
def _request(
    url: str,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    seconds: float = ANSWER_SECONDS,
) -> Iterator[http.client.HTTPResponse]:
    parts = urlsplit(url if "//" in url else f"http://{url}")
    connection = http.client.HTTPConnection(parts.netloc, timeout=seconds)
    root = parts.path.rstrip("/").removesuffix("/v1")
    payload = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    if key := os.environ.get(KEY_VARIABLE):
        headers["authorization"] = f"Bearer {key}"
    try:
        try:
            connection.request(method, root + path, payload, headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise InputError(
                f"nothing answers at {url}: {error}", hint="start it with: residency serve"
            ) from None
        if response.status != http.HTTPStatus.OK:
            raise _refusal(response)
        yield response
    except (OSError, http.client.HTTPException) as error:
        raise EngineUnavailable(f"{url} went away before its answer was complete") from error
    finally:
        connection.close()


def _refusal(response: http.client.HTTPResponse) -> EngineRejected:
    text = response.read().decode(errors="replace")
    try:
        whole = json.loads(text)
        message, hint = whole["error"]["message"], whole.get("residency", {}).get("hint", "")
    except (ValueError, KeyError, TypeError):
        message, hint = f"HTTP {response.status}: {text[:200]}", "is this a residency endpoint?"
    if response.status == http.HTTPStatus.UNAUTHORIZED:
        hint = f"export {KEY_VARIABLE}=..., a key of: residency keys add NAME"
    return EngineRejected(message, status=response.status, hint=hint)


def _texts(response: http.client.HTTPResponse) -> Iterator[str]:
    for line in response:
        if not line.startswith(b"data: "):
            continue
        if line.startswith(b"data: [DONE]"):
            return
        chunk = json.loads(line[len(b"data: ") :])
        if "error" in chunk:
            raise EngineError(chunk["error"]["message"])
        for choice in chunk["choices"]:
            if text := choice["delta"].get("content"):
                yield text
    raise EngineUnavailable("the answer ended before it was complete")
