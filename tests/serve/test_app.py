"""The gateway over HTTP, as the official client and a bare socket see it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from residency.config import ServeSettings
from tests.fakes.engine import FakeEngine
from tests.serve.conftest import Served

Serving = Callable[..., Served]


def get(served: Served, path: str, method: str = "GET", body: bytes | None = None) -> Any:
    """Status, headers and parsed body of a bare request."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    connection.request(method, path, body)
    response = connection.getresponse()
    found = response.status, response.headers, json.loads(response.read())
    connection.close()
    return found


def test_models_are_listed(serving: Serving) -> None:
    served = serving("clinic-desk")
    assert [one.id for one in served.client.models.list()] == ["clinic-desk"]
    one = served.client.models.retrieve("clinic-desk")
    assert (one.owned_by, one.created) == ("residency", 1795500000)
    with pytest.raises(openai.NotFoundError, match="known: clinic-desk"):
        served.client.models.retrieve("other/model")


def test_a_plain_answer(serving: Serving, state: Callable[[], dict[str, Any]]) -> None:
    served = serving("clinic-desk")
    raw = served.client.chat.completions.with_raw_response.create(
        model="clinic-desk", messages=[{"role": "user", "content": "one two three"}]
    )
    answer = raw.parse()
    assert answer.choices[0].message.content == "one two three"
    assert (answer.choices[0].finish_reason, answer.model) == ("stop", "clinic-desk")
    assert answer.usage is not None and answer.usage.completion_tokens == 3
    assert answer.system_fingerprint == "0123456789ab"
    assert raw.headers["x-residency-system"] == "added"
    asked = state()["asked"][-1]
    assert asked["messages"][0] == {"role": "system", "content": "You sort messages."}
    assert (asked["stream"], asked["temperature"], asked["max_tokens"]) == (True, 0.0, 48)


def test_the_system_message_of_the_client_stays(serving: Serving) -> None:
    served = serving("clinic-desk")
    raw = served.client.chat.completions.with_raw_response.create(
        model="clinic-desk",
        messages=[{"role": "system", "content": "mine"}, {"role": "user", "content": "hi"}],
    )
    assert "x-residency-system" not in raw.headers


def test_a_streamed_answer(serving: Serving) -> None:
    chunks = list(serving().ask("one two three", stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "one two three"
    assert {(c.id, c.model, c.system_fingerprint) for c in chunks} == {
        (chunks[0].id, "echo", "0123456789ab")
    }
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_a_streamed_answer_with_usage(serving: Serving) -> None:
    chunks = list(serving().ask("one two", stream=True, stream_options={"include_usage": True}))
    assert [len(chunk.choices) for chunk in chunks[-2:]] == [1, 0]
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 2
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_events_are_framed_as_openais(serving: Serving) -> None:
    served = serving()
    body = {"model": "echo", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    response = connection.getresponse()
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = response.read().split(b"\n\n")
    connection.close()
    assert events[-2:] == [b"data: [DONE]", b""]
    assert all(event.startswith(b"data: ") for event in events[:-1])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("behaviour", "kind", "status", "party"),
    [
        ("400", openai.BadRequestError, 400, "client"),
        ("401", openai.InternalServerError, 500, "gateway"),
        ("500", openai.InternalServerError, 502, "engine"),
        ("503", openai.InternalServerError, 503, "engine"),
        ("drop", openai.InternalServerError, 503, "engine"),
        ("hang", openai.InternalServerError, 504, "engine"),
    ],
)
def test_what_fails_before_the_first_chunk_has_its_status(
    serving: Serving,
    behaviour: str,
    kind: type[openai.APIStatusError],
    status: int,
    party: str,
    stream: bool,
) -> None:
    served = serving(
        behaviour, settings=ServeSettings(timeout=0.5 if behaviour == "hang" else 60.0)
    )
    with pytest.raises(kind) as caught:
        served.ask(stream=stream)
    assert caught.value.status_code == status
    assert caught.value.response.headers["x-residency-party"] == party
    assert caught.value.response.json()["residency"]["party"] == party
    assert ("retry-after" in caught.value.response.headers) == (status == 503)


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("die-mid-stream", "engine_unavailable"),
        ("end-early", "engine_unavailable"),
        ("error-mid-stream", "engine_error"),
    ],
)
def test_what_fails_later_ends_the_stream_with_an_error(
    serving: Serving, behaviour: str, code: str
) -> None:
    served = serving(behaviour)
    texts = []
    with pytest.raises(openai.APIError) as caught:
        for chunk in served.ask("one two three", stream=True):
            texts.append(chunk.choices[0].delta.content or "")
    assert "".join(texts) == "one two"
    assert caught.value.code == code


def test_an_error_in_a_stream_is_its_last_event(serving: Serving) -> None:
    served = serving("die-mid-stream")
    body = {"model": served.model, "stream": True, "messages": [{"role": "user", "content": "a b"}]}
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    events = connection.getresponse().read().removesuffix(b"\n\n").split(b"\n\n")
    connection.close()
    assert b"data: [DONE]" not in events
    assert json.loads(events[-1].removeprefix(b"data: "))["residency"] == {"party": "engine"}


def test_a_plain_answer_that_breaks_off_is_an_error(serving: Serving) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        serving("die-mid-stream").ask("one two three")
    assert caught.value.status_code == 503


def test_another_model_is_not_found(serving: Serving) -> None:
    with pytest.raises(openai.NotFoundError, match="known: echo") as caught:
        serving().ask(model="gpt-4o")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.response.headers["x-residency-party"] == "client"


def test_an_unknown_parameter_is_named(serving: Serving) -> None:
    with pytest.raises(openai.BadRequestError, match="did you mean temperature") as caught:
        serving().ask(extra_body={"temprature": 1})
    assert caught.value.param == "temprature"


@pytest.mark.parametrize("declared", [True, False])
def test_too_long_a_body_is_refused(serving: Serving, declared: bool) -> None:
    served = serving()
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    pieces = (b"x" * 1_000_000 for _ in range(12))
    body = b"x" * 12_000_000 if declared else pieces
    connection.request("POST", "/v1/chat/completions", body)
    response = connection.getresponse()
    assert response.status == 413
    assert json.load(response)["error"]["code"] == "request_too_large"
    connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/images", 404, "unknown_url"),
        ("GET", "/v1/models/", 404, "model_not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/v1/chat/completions", 400, "invalid_json"),
    ],
)
def test_every_error_has_openais_body(
    serving: Serving, method: str, path: str, status: int, code: str
) -> None:
    found, headers, body = get(serving(), path, method)
    assert (found, body["error"]["code"]) == (status, code)
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["residency"]["party"] == headers["x-residency-party"] == "client"


def test_health_and_readiness(serving: Serving) -> None:
    served = serving()
    assert get(served, "/health")[::2] == (200, {"status": "ok"})
    assert get(served, "/ready")[::2] == (200, {"status": "ready", "models": ["echo"]})


def test_without_engine_the_process_lives_but_is_not_ready(serving: Serving) -> None:
    with FakeEngine() as engine:
        served = serving(url=engine.url, settings=ServeSettings(timeout=1.0))
    assert get(served, "/health")[0] == 200
    status, headers, body = get(served, "/ready")
    assert (status, headers["retry-after"]) == (503, "2")
    assert body["error"]["code"] == "engine_unavailable"
    with pytest.raises(openai.InternalServerError) as caught:
        served.ask()
    assert caught.value.status_code == 503


def test_while_draining_new_work_is_refused(serving: Serving) -> None:
    served = serving()
    served.gateway.draining = True
    assert get(served, "/health")[0] == 200
    assert get(served, "/ready")[2]["error"]["code"] == "shutting_down"
    with pytest.raises(openai.InternalServerError, match="shutting down") as caught:
        served.ask()
    assert caught.value.response.headers["x-residency-party"] == "gateway"


def test_a_fault_of_ours_is_told_without_its_details(serving: Serving) -> None:
    served = serving(created="yesterday")
    with pytest.raises(openai.InternalServerError, match="its log says why") as caught:
        served.client.models.list()
    assert caught.value.code == "internal_error"
    assert "yesterday" not in caught.value.response.text


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_late_is_given_as_far_as_it_is(serving: Serving, stream: bool) -> None:
    served = serving("hang-mid-stream")
    answer = served.ask("one two three", stream=stream, extra_body={"timeout": 1.0})
    if stream:
        chunks = list(answer)
        text = "".join(c.choices[0].delta.content or "" for c in chunks)
        last = chunks[-1]
    else:
        text, last = answer.choices[0].message.content, answer
    assert text == "one two"
    assert last.choices[0].finish_reason == "length"
    assert last.residency["finish"] == "deadline"
