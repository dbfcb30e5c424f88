"""POST /v1/feedback: an answer's own client says what it thinks of it."""

import json
import math
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from residency.config import ServeSettings
from residency.serve import keys
from residency.serve.asked import Asked, Caller
from residency.serve.keys import KeyRing
from residency.serve.visit import Visit, exchange_id
from residency.store import Store
from residency.traffic.feedback import Feedback
from residency.traffic.store import FILE_NAME, TrafficStore
from residency.types import to_json
from tests.serve.conftest import Served

Serving = Callable[..., Served]


def post(
    served: Served, path: str, body: Any, key: str = "any"
) -> tuple[int, dict[str, Any], dict[str, str]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}"}
    request = urllib.request.Request(served.url + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), dict(error.headers)


def feedback(served: Served, key: str = "any", **body: Any) -> int:
    return post(served, "/v1/feedback", body, key)[0]


def kept(served: Served) -> list[Feedback]:
    store = TrafficStore(Store(served.folder).root / FILE_NAME)
    try:
        return store.feedback()
    finally:
        store.close()


ASKED = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi", "store": False},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
}


@pytest.mark.parametrize("path", ASKED)
def test_the_id_of_an_answer_leads_to_its_exchange(serving: Serving, path: str) -> None:
    """At once, though exchanges gather before they are written."""
    served = serving()
    status, answer, headers = post(served, path, {"model": served.model, **ASKED[path]})
    assert status == 200, answer
    assert exchange_id(answer["id"]) == headers["x-request-id"]
    assert feedback(served, id=answer["id"], rating="up") == 200
    assert feedback(served, id=headers["x-request-id"], rating="down", comment="no") == 200
    (one,) = kept(served)
    assert (one.exchange, one.rating, one.comment, one.key) == (
        headers["x-request-id"],
        "down",
        "no",
        "anyone",
    )


def test_a_correction_says_that_the_answer_was_wrong_and_is_masked(serving: Serving) -> None:
    served = serving()
    answer = served.ask()
    assert feedback(served, id=answer.id, correction="ask jo@example.org") == 200
    (one,) = kept(served)
    assert (one.rating, one.correction) == ("down", "ask [EMAIL_1]")


def test_what_is_kept_whole_is_not_masked(serving: Serving) -> None:
    served = serving(settings=ServeSettings(record="whole"))
    assert feedback(served, id=served.ask().id, correction="ask jo@example.org") == 200
    assert kept(served)[0].correction == "ask jo@example.org"


def test_a_key_rates_its_own_exchanges_only(serving: Serving) -> None:
    served = serving(settings=ServeSettings(keys=True))
    ring = KeyRing(Store(served.folder).root / keys.FILE_NAME)
    ada, bob = (ring.add(Caller(name=n), expires=None, now=time.time()) for n in ("ada", "bob"))
    body = {"model": served.model, **ASKED["/v1/chat/completions"]}
    _, answer, _ = post(served, "/v1/chat/completions", body, ada)
    assert feedback(served, "", id=answer["id"], rating="up") == 401
    other = post(served, "/v1/feedback", {"id": answer["id"], "rating": "down"}, bob)
    none = post(served, "/v1/feedback", {"id": "req_" + "0" * 24, "rating": "down"}, bob)
    assert other[0] == none[0] == 404
    assert other[1]["error"]["code"] == none[1]["error"]["code"] == "exchange_not_found"
    told = [re.sub("'.*'", "", one[1]["error"]["message"]) for one in (other, none)]
    assert told[0] == told[1]
    assert kept(served) == []
    assert feedback(served, ada, id=answer["id"], rating="down") == 200
    assert [one.key for one in kept(served)] == ["ada"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "id"),
        ({"id": "x"}, "a rating, a correction"),
        ({"id": "x", "rating": "sideways"}, "rating"),
        ({"id": "x", "rating": "up", "correction": "y"}, "needs no correction"),
        ({"id": "x", "correction": "  "}, "empty"),
        ({"id": "x", "rating": "up", "stars": 5}, "stars"),
        ({"id": 7, "rating": "up"}, "id"),
        ({"id": "x" * 201, "rating": "up"}, "id"),
        (b"[1", "JSON"),
    ],
)
def test_what_would_be_ignored_is_refused(serving: Serving, body: Any, said: str) -> None:
    status, answer, _ = post(serving(), "/v1/feedback", body)
    assert status == 400
    assert said in answer["error"]["message"] or said == answer["error"]["param"]


def test_where_nothing_is_recorded_it_says_so(serving: Serving) -> None:
    served = serving(settings=ServeSettings(record="none"))
    status, answer, _ = post(served, "/v1/feedback", {"id": served.ask().id, "rating": "up"})
    assert status == 404
    assert "keeps no record" in answer["error"]["message"]


def test_how_sure_an_answer_was_is_recorded_where_it_was_asked() -> None:
    """As a figure: what a mask hides could be read from the tokens."""
    visit = Visit(api="chat", asked=Asked(api="chat", model="m"))
    for token, logprob in (("jo@", -1.0), ("example.org", -3.0)):
        content = [{"token": token, "logprob": logprob}]
        part = {"index": 0, "delta": {"content": token}, "logprobs": {"content": content}}
        visit.answer.add({"choices": [part]})
    recorded = visit.exchange()
    assert recorded is not None
    assert recorded.tags["confidence"] == pytest.approx(math.exp(-2.0), abs=1e-6)
    assert "logprob" not in to_json(recorded)
