"""What someone with bad intentions may try: keys, paths, texts that look like a protocol."""

from __future__ import annotations

import http.client
import itertools
import json
import re
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from starlette.routing import Route

from residency import audit
from residency.config import ServedModel, ServeSettings
from residency.engines.llama_host import KEY_VARIABLE
from residency.serve import keys
from residency.serve.app import create_app
from residency.serve.asked import Caller
from residency.serve.keys import KeyRing
from residency.store import Store
from residency.traffic.store import FILE_NAME as TRAFFIC
from residency.traffic.store import TrafficStore
from tests.serve.conftest import Served
from tests.serve.processes import MODEL, QUESTION, Process, engine_of, url_of

Serving = Callable[..., Served]
OPEN = {"/health", "/ready"}
SAID: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": SAID,
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {**SAID, "max_tokens": 9},
    "/v1/messages/count_tokens": SAID,
    "/v1/embeddings": {"input": "hi"},
    "/v1/feedback": {"id": "req_0", "rating": "up"},
}
PROMPTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "/v1/chat/completions": lambda text: {"messages": [{"role": "user", "content": text}]},
    "/v1/completions": lambda text: {"prompt": text},
    "/v1/responses": lambda text: {"input": text},
    "/v1/messages": lambda text: {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 99,
    },
}


def ring(served: Served) -> KeyRing:
    return KeyRing(Store(served.folder).root / keys.FILE_NAME)


def routes(served: Served) -> Iterator[tuple[str, str]]:
    """Every method and path that the application has."""
    for route in create_app(served.gateway).routes:
        assert isinstance(route, Route)
        for method in route.methods or ():
            yield method, route.path.replace("{id:path}", served.model)


def call(served: Served, method: str, path: str, key: str = "", **body: Any) -> tuple[int, Any]:
    """The status, and the body if it is JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    connection.request(method, path, json.dumps({"model": served.model, **body}), headers)
    response = connection.getresponse()
    raw = response.read()
    connection.close()
    is_json = response.headers.get_content_type() == "application/json"
    return response.status, json.loads(raw) if raw and is_json else None


def test_every_route_asks_for_a_key(serving: Serving) -> None:
    served = serving(settings=ServeSettings(keys=True))
    now, kept = time.time(), ring(served)
    old = kept.add(Caller(name="old"), expires=now - 1, now=now - 60)
    gone = kept.add(Caller(name="gone"), expires=None, now=now)
    kept.revoke("gone", now)
    good = kept.add(Caller(name="good"), expires=None, now=now)
    forged = f"{good[:-1]}{'A' if good[-1] != 'A' else 'B'}"
    bad = [
        "",
        "any",
        "res--",
        "res-x-y",
        forged,
        good[:-1],
        good + "x",
        old,
        gone,
        "\xff",
        "x" * 9000,
    ]
    for method, path in routes(served):
        if path in OPEN:
            assert call(served, method, path)[0] == 200
            continue
        for key in bad:
            status, body = call(served, method, path, key, **BODIES.get(path, {}))
            assert status == 401, (method, path, key)
            assert method == "HEAD" or body["error"]["message"]
        # The body of feedback has no `model`, which the others need.
        fine = (400,) if path == "/v1/feedback" else (200, 503)
        assert call(served, method, path, good, **BODIES.get(path, {}))[0] in fine


def test_a_revoked_key_ends_at_once(serving: Serving) -> None:
    served = serving(settings=ServeSettings(keys=True))
    token = ring(served).add(Caller(name="kim"), expires=None, now=time.time())
    client = served.client.with_options(api_key=token)
    assert [one.id for one in client.models.list()] == ["echo"]
    ring(served).revoke("kim", time.time())
    with pytest.raises(openai.AuthenticationError, match="is revoked"):
        client.models.list()


def test_no_key_sees_the_models_of_others(serving: Serving) -> None:
    models = {"mine": ServedModel(), "theirs": ServedModel()}
    served = serving(settings=ServeSettings(keys=True, models=models))
    caller = Caller(name="kim", models=frozenset({"mine"}))
    token = ring(served).add(caller, expires=None, now=time.time())
    client = served.client.with_options(api_key=token)
    assert [one.id for one in client.models.list()] == ["mine"]
    posts = {path for method, path in routes(served) if method == "POST"}
    assert posts == BODIES.keys()
    posts.remove("/v1/feedback")  # names no model
    asked = [("GET", "/v1/models/{}", {}), *(("POST", path, BODIES[path]) for path in posts)]
    for method, path, body in asked:
        theirs, none = (
            call(served, method, path.format(name), token, **{**body, "model": name})
            for name in ("theirs", "absent")
        )
        assert theirs[0] == none[0] == 404
        assert json.dumps(theirs[1]) == json.dumps(none[1]).replace("absent", "theirs")


def raw(served: Served, method: str, target: str) -> tuple[int, bytes]:
    """What a request with exactly that target is answered."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as sock:
        head = f"{method} {target} HTTP/1.1\r\nHost: desk\r\nConnection: close\r\n\r\n"
        sock.sendall(head.encode("latin-1"))
        answer = b"".join(iter(lambda: sock.recv(65_536), b""))
    return int(answer.split(b" ", 2)[1]), answer


TRICKS = [
    "/v1/models",
    "/v1/models/",
    "/v1/models//",
    "/v1/models/echo",
    "//v1/models",
    "/v1//models",
    "/./v1/models",
    "/health/../v1/models",
    "/health/..%2fv1/models",
    "/health%2f..%2fv1%2fmodels",
    "/ready/..;/v1/models",
    "/v1/%6dodels",
    "/%76%31/models",
    "/V1/MODELS",
    "/v1/models%00",
    "/v1/models%20",
    "/v1/models;/health",
    "/v1/models?/health",
    "/v1/models#/health",
    "/health/v1/models",
    "/v1\\models",
    "/v1/models/../../health",
    "http://desk/v1/models",
    "http://127.0.0.1/health/../v1/models",
    "*",
    "desk:80",
    "/v1/models/%2e%2e/health",
]


def test_no_path_leads_around_the_keys(serving: Serving) -> None:
    served = serving(settings=ServeSettings(keys=True))
    for method, target in itertools.product(("GET", "HEAD", "POST", "OPTIONS"), TRICKS):
        status, answer = raw(served, method, target)
        assert status in (400, 401, 404, 405), (method, target)
        assert b'"owned_by"' not in answer


def test_methods_that_are_not_offered(serving: Serving) -> None:
    served = serving()
    offered = {(method, path) for method, path in routes(served)}
    for path in {path for _, path in offered}:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            if (method, path) not in offered:
                status, body = call(served, method, path)
                assert status == 405, (method, path)
                assert body["error"]["code"] == "method_not_allowed"
    status, body = call(served, "BREW", "/v1/models")
    assert (status, body["error"]["code"]) == (400, "invalid_http")


EVIL = (
    "a\n\ndata: [DONE]\n\nevent: error\r\ndata: {}\r\rid: 1\nretry: 0\n: x\u2028data: y\u2029z "
    "\u0085\x0b\x0c\x1c\x00 \ufeff</script> \ud83d\ude00".encode("utf-16", "surrogatepass").decode(
        "utf-16"
    )
)
_FIELD = re.compile(r"(event: [a-z_.]+|data: (\[DONE\]|\{.*\}))?")


def said(event: Any) -> str:
    """The piece of text that one event of any of the APIs carries."""
    if choices := event.get("choices"):
        return choices[0].get("text") or choices[0].get("delta", {}).get("content") or ""
    if event.get("type") == "response.output_text.delta":
        return str(event["delta"])
    if event.get("type") == "content_block_delta":
        return str(event["delta"]["text"])
    return ""


@pytest.mark.parametrize("path", PROMPTS)
def test_a_text_that_looks_like_events_stays_a_text(serving: Serving, path: str) -> None:
    served = serving(max_tokens=400, context=2048)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    body = {"model": "echo", "stream": True, **PROMPTS[path](EVIL)}
    connection.request("POST", path, json.dumps(body))
    stream = connection.getresponse().read().decode()
    connection.close()
    lines = stream.split("\n")
    assert stream.splitlines() == lines[:-1]  # nothing else ends a line, by anyone's rules
    assert all(_FIELD.fullmatch(line) for line in lines)
    events = [one.removeprefix("data: ") for one in lines if one.startswith("data: {")]
    assert "".join(said(json.loads(one)) for one in events) == EVIL


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", PROMPTS)
def test_half_a_character_in_a_prompt_is_refused(serving: Serving, path: str, stream: bool) -> None:
    status, body = call(serving(), "POST", path, stream=stream, **PROMPTS[path]("\ud83d"))
    assert status == 400
    assert "JSON" in body["error"]["message"]


@pytest.mark.parametrize("path", [one for one in PROMPTS if one != "/v1/completions"])
def test_half_a_character_in_an_answer_arrives(serving: Serving, path: str) -> None:
    served = serving("surrogate")
    status, body = call(served, "POST", path, **PROMPTS[path]("hi"))
    assert status == 200
    assert "half \\ud83d" in json.dumps(body)


@pytest.mark.parametrize("place", ["$schema", "$id", "$ref", "not"])
def test_no_schema_has_a_page_fetched(serving: Serving, place: str) -> None:
    served = serving()
    with socket.create_server(("127.0.0.1", 0)) as inside:
        inside.settimeout(0.2)
        url = f"http://127.0.0.1:{inside.getsockname()[1]}/admin"
        schema = {"type": "object", place: {"$ref": url} if place == "not" else url}
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        status, _ = call(served, "POST", "/v1/chat/completions", response_format=form, **SAID)
        assert status == (400 if place in ("$ref", "not") else 200)
        with pytest.raises(TimeoutError):
            inside.accept()


SECRET = "the rash of Ms Q, jane.doe@example.com"


def test_logs_and_process_lists_tell_nothing(start: Callable[..., Process], tmp_path: Path) -> None:
    process = start(keys=True)
    url, root = url_of(process), Store(tmp_path / "desk").root
    token = KeyRing(root / keys.FILE_NAME).add(Caller(name="kim"), expires=None, now=time.time())
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0, timeout=60)
    messages: Any = [{"role": "user", "content": SECRET}]
    with client:
        client.chat.completions.create(model=MODEL, messages=messages, max_tokens=5)
        for wrong in (
            {"messages": messages * 99},
            {"messages": messages, "extra_body": {SECRET: SECRET}},
            {"messages": messages, "seed": SECRET},
        ):
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(model=MODEL, **wrong)
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key=token + "x").models.list()
    engine = engine_of(process)
    secrets = [token, token.split("-", 2)[2], engine.environ()[KEY_VARIABLE]]
    for one in (psutil.Process(process.pid), engine):
        assert not any(secret in word for secret in secrets for word in one.cmdline())
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    for word in (*secrets, "rash", "jane.doe"):
        assert word not in stdout + stderr
    (kept, *_) = TrafficStore(root / TRAFFIC).between(0, time.time())
    assert "jane.doe" not in str(kept.request) and "the rash of" in str(kept.request)
    assert kept.key == "kim"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    files = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=desk"
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1]]
    try:
        subprocess.run([*command.split(), *more], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no openssl to make a certificate with")
    return files


def test_it_serves_tls(start: Callable[..., Process], certificate: tuple[str, str]) -> None:
    url = url_of(start(tls_certificate=certificate[0], tls_key=certificate[1]))
    assert url.startswith("https://127.0.0.1:")
    trust = ssl.create_default_context(cafile=certificate[0])
    with urllib.request.urlopen(f"{url}/v1/models", timeout=30, context=trust) as response:
        assert json.load(response)["data"][0]["id"] == MODEL
    body = json.dumps({"model": MODEL, "stream": True, "messages": QUESTION}).encode()
    ask = urllib.request.Request(f"{url}/v1/chat/completions", body)
    with urllib.request.urlopen(ask, timeout=60, context=trust) as response:
        assert response.read().endswith(b"data: [DONE]\n\n")
    with pytest.raises((OSError, http.client.HTTPException)):
        urllib.request.urlopen(url.replace("https", "http") + "/health", timeout=30)


def test_others_are_let_in_by_the_very_words_alone(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    refused = start(host="0.0.0.0", exposed="without keys")
    _, stderr = refused.communicate(timeout=60)
    assert refused.returncode == 3
    assert "can be reached from other machines" in stderr
    url = url_of(start(host="0.0.0.0", exposed="without keys and TLS"))
    assert url.startswith("http://0.0.0.0:")
    acts = [one for one in audit.read(tmp_path / "desk") if one.act == "endpoint exposed"]
    assert [one.details for one in acts] == [{"missing": "without keys and TLS"}]
