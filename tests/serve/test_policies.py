"""What the settings and keys promise, over HTTP: limits, budgets, routes, deadlines, records."""

from __future__ import annotations

import contextlib
import math
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import openai
import pytest

from residency.config import ServedModel, ServeSettings
from residency.serve import breaker, keys, spending
from residency.serve.asked import Caller
from residency.serve.keys import KeyRing
from residency.serve.ledger import FILE_NAME as LEDGER
from residency.serve.ledger import Ledger
from residency.store import Store
from residency.traffic.store import FILE_NAME as TRAFFIC
from residency.traffic.store import TrafficStore
from residency.types import Exchange
from tests.engines.processes import ROOT, eventually
from tests.fakes.engine import FakeEngine
from tests.serve.conftest import Served

Serving = Callable[..., Served]
State = Callable[[], dict[str, Any]]
VARIABLE = "KEY_OF_THE_API"
A_COIN_A_TOKEN = 1e6
JSON: Any = {"type": "json_object"}
LOOP = "and so it goes on and on " * 40
PERSONAL = "Write to jane.doe@example.com, please."


@pytest.fixture(autouse=True)
def key_of_the_api(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, fake.key)


@pytest.fixture(scope="session")
def beyond(outside: str) -> Iterator[FakeEngine]:
    """An API that is beyond this machine, as far as the gateway can tell."""
    with FakeEngine(host=outside) as running:
        yield running


def api(at: FakeEngine, **more: Any) -> ServedModel:
    return ServedModel(url=f"{at.url}/v1", key_variable=VARIABLE, **more)


def holder(served: Served, **rights: Any) -> Served:
    """The same endpoint, asked with a key that allows what `rights` say."""
    ring = KeyRing(Store(served.folder).root / keys.FILE_NAME)
    token = ring.add(Caller(name="kim", **rights), expires=None, now=time.time())
    client = served.client.with_options(api_key=token)
    return Served(served.port, served.gateway, client, served.model, served.folder)


def spent(served: Served, account: str) -> float:
    with contextlib.closing(Ledger(Store(served.folder).root / LEDGER)) as ledger:
        return ledger.spent(account, time.time())


def exchanges(served: Served, count: int) -> list[Exchange]:
    """What is recorded, once there are `count`."""
    path = Store(served.folder).root / TRAFFIC
    with contextlib.closing(TrafficStore(path)) as store:
        assert eventually(lambda: store.count() == count)
        return list(store.between(0.0, math.inf))


def ours(answer: Any) -> Any:
    """The `residency` object of an answer."""
    return answer.model_extra["residency"]


def text(answer: Any) -> str:
    return str(answer.choices[0].message.content)


def test_requests_a_minute(serving: Serving) -> None:
    served = holder(serving(settings=ServeSettings(keys=True)), requests=3)
    for left in (2, 1, 0):
        raw = served.client.chat.completions.with_raw_response.create(
            model="echo", messages=[{"role": "user", "content": "hi"}]
        )
        assert raw.headers["x-ratelimit-limit-requests"] == "3"
        assert raw.headers["x-ratelimit-remaining-requests"] == str(left)
    with pytest.raises(openai.RateLimitError, match="3 requests a minute") as caught:
        served.ask()
    assert caught.value.code == "rate_limit_exceeded"
    assert 0 < int(caught.value.response.headers["retry-after"]) <= 20
    assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"


def test_counting_tokens_is_a_request_too(serving: Serving) -> None:
    served = holder(serving(settings=ServeSettings(keys=True)), requests=1)
    client = anthropic.Anthropic(base_url=served.url, api_key=served.client.api_key, max_retries=0)
    asked: Any = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
    assert client.messages.count_tokens(**asked).input_tokens
    with pytest.raises(anthropic.RateLimitError):
        client.messages.count_tokens(**asked)


def test_tokens_a_minute_are_those_that_were_used(serving: Serving) -> None:
    """At most, one of these requests can take 120 tokens; it takes 9."""
    served = holder(serving(settings=ServeSettings(keys=True)), tokens=150)
    for _ in range(4):
        served.ask(max_tokens=30)
    with pytest.raises(openai.RateLimitError, match="asks for more") as caught:
        served.ask(max_tokens=150)
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_who_leaves_early_has_used_what_was_written(serving: Serving) -> None:
    served = holder(serving("long", settings=ServeSettings(keys=True)), tokens=120)
    stream = served.ask("hi", stream=True, max_tokens=40)
    for _ in range(30):
        next(stream)
    stream.close()
    assert eventually(lambda: served.gateway.at_work == 0)
    raw = served.gateway.rate_headers(Caller(name="kim", tokens=120))
    assert 120 - int(raw["x-ratelimit-remaining-tokens"]) >= 20


@pytest.mark.parametrize("whose", ["model", "key"])
def test_a_budget_is_never_passed(serving: Serving, fake: FakeEngine, whose: str) -> None:
    budget = 31.0
    limit = {"budget": budget} if whose == "model" else {}
    models = {"api": api(fake, model="echo", price_out=A_COIN_A_TOKEN, **limit)}
    served = serving(settings=ServeSettings(models=models, keys=True))
    served = holder(served, **({} if limit else {"budget": budget}))

    def ask(_: int) -> bool:
        with contextlib.suppress(openai.RateLimitError):
            return text(served.ask("one two three", max_tokens=5)) == "one two three"
        return False

    with ThreadPoolExecutor(20) as pool:
        done = sum(pool.map(ask, range(20)))
    while ask(0):
        done += 1
    account = spending.account("api") if whose == "model" else "key:kim"
    assert spent(served, account) == 3 * done
    assert budget - 5 < 3 * done <= budget
    with pytest.raises(openai.RateLimitError) as caught:
        served.ask(max_tokens=5)
    assert caught.value.code == "insufficient_quota"


def test_every_asking_costs(serving: Serving, fake: FakeEngine) -> None:
    models = {"api": api(fake, model="second-thought", price_out=A_COIN_A_TOKEN, budget=100)}
    served = serving(settings=ServeSettings(models=models))
    answer = served.ask('no json||{"a":1}', response_format=JSON, max_tokens=5)
    assert text(answer) == '{"a":1}'
    assert ours(answer)["guards"] == ["invalid_json", "retry:temperature"]
    (kept,) = exchanges(served, 1)
    assert (kept.completion_tokens, kept.cost) == (3, 3.0)
    assert spent(served, spending.account("api")) == 3


def test_an_asking_that_the_budget_has_no_room_for_is_not_made(
    serving: Serving, fake: FakeEngine
) -> None:
    models = {"api": api(fake, model="second-thought", price_out=A_COIN_A_TOKEN, budget=6)}
    served = serving(settings=ServeSettings(models=models))
    with pytest.raises(openai.RateLimitError, match="2 is used"):
        served.ask("no json||{}", response_format=JSON, max_tokens=5)
    assert spent(served, spending.account("api")) == 2


@pytest.mark.parametrize(("behaviour", "cost"), [("429", 0), ("400", 0), ("hang", 5), ("drop", 5)])
def test_what_is_refused_costs_nothing(
    serving: Serving, fake: FakeEngine, behaviour: str, cost: int
) -> None:
    models = {"api": api(fake, model=behaviour, price_out=A_COIN_A_TOKEN, budget=100)}
    served = serving(settings=ServeSettings(models=models, timeout=0.5))
    with pytest.raises(openai.APIStatusError):
        served.ask(max_tokens=5)
    assert spent(served, spending.account("api")) == cost


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("behaviour", ["500", "503", "drop", "not-json", "hang"])
def test_another_model_answers_for_one_that_fails(
    serving: Serving, fake: FakeEngine, behaviour: str, stream: bool
) -> None:
    models = {
        "desk": ServedModel(fallback=["api"], ttft_timeout=0.5),
        "api": api(fake, model="echo"),
    }
    served = serving(behaviour, settings=ServeSettings(models=models))
    answer = served.ask("one two", stream=stream)
    if not stream:
        assert (text(answer), ours(answer)["routes"]) == ("one two", ["desk", "api"])
        return
    chunks = list(answer)
    assert "".join(one.choices[0].delta.content or "" for one in chunks) == "one two"
    assert ours(chunks[-1])["routes"] == ["desk", "api"]


def test_another_model_answers_when_the_first_is_overloaded(
    serving: Serving, fake: FakeEngine
) -> None:
    models = {"desk": ServedModel(fallback=["api"]), "api": api(fake, model="echo")}
    served = serving("hang-mid-stream", settings=ServeSettings(models=models, queue=0))
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            next(stack.enter_context(served.ask("one two three", stream=True)))
        assert ours(served.ask())["routes"] == ["desk", "api"]


def test_what_the_request_is_to_blame_for_goes_nowhere_else(
    serving: Serving, fake: FakeEngine, state: State
) -> None:
    models = {"desk": ServedModel(fallback=["api"]), "api": api(fake, model="echo")}
    served = serving("400", settings=ServeSettings(models=models))
    with pytest.raises(openai.BadRequestError):
        served.ask()
    assert state()["asked"][-1]["model"] == "400"


def test_a_model_that_keeps_failing_is_left_alone(serving: Serving, fake: FakeEngine) -> None:
    models = {"desk": ServedModel(fallback=["api"]), "api": api(fake, model="echo")}
    served = serving("drop", settings=ServeSettings(models=models))
    for _ in range(breaker.FAILURES):
        assert ours(served.ask())["routes"] == ["desk", "api"]
    assert ours(served.ask())["routes"] == ["api"]


def test_the_impatience_of_one_closes_no_model_to_others(serving: Serving) -> None:
    served = serving("slow")
    for _ in range(breaker.FAILURES):
        with pytest.raises(openai.InternalServerError) as caught:
            served.ask(extra_body={"timeout": 1e-6})
        assert caught.value.code == "engine_timeout"
    assert text(served.ask("hello")) == "hello"


@pytest.mark.slow
def test_a_model_that_came_back_is_asked_again(serving: Serving, fake: FakeEngine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    models = {"api": ServedModel(url=f"http://127.0.0.1:{port}/v1", key_variable=VARIABLE)}
    served = serving(settings=ServeSettings(models=models))
    codes = set()
    for _ in range(breaker.FAILURES + 1):
        with pytest.raises(openai.InternalServerError) as caught:
            served.ask()
        codes.add(caught.value.code)
    assert codes == {"engine_unavailable", "all_routes_down"}
    command = [sys.executable, "-m", "tests.fakes.openai_engine", "--port", str(port)]
    with subprocess.Popen(
        [*command, "--key", fake.key], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(openai.InternalServerError, match="kept failing"):
            served.ask()
        time.sleep(breaker.REST)
        assert [text(served.ask("hello")) for _ in range(2)] == ["hello"] * 2
        process.kill()


ASKINGS: Any = {
    "chat": lambda client, words: client.chat.completions.create(
        model="api", messages=[{"role": "user", "content": words}]
    ),
    "tools": lambda client, words: client.chat.completions.create(
        model="api",
        messages=[{"role": "user", "content": "hi"}],
        tools=[{"type": "function", "function": {"name": "f", "description": words}}],
    ),
    "completions": lambda client, words: client.completions.create(model="api", prompt=words),
    "responses": lambda client, words: client.responses.create(model="api", input=words),
    "messages": lambda client, words: client.post(
        "/messages",
        body={
            "model": "api",
            "max_tokens": 9,
            "messages": [{"role": "user", "content": words}],
        },
        cast_to=object,
    ),
    "embeddings": lambda client, words: client.embeddings.create(model="api", input=words),
}


@pytest.mark.parametrize("asking", ASKINGS)
def test_what_is_personal_does_not_leave(serving: Serving, beyond: FakeEngine, asking: str) -> None:
    served = serving(settings=ServeSettings(models={"api": api(beyond, model="echo")}))
    with pytest.raises(openai.PermissionDeniedError, match="personal data") as caught:
        ASKINGS[asking](served.client, PERSONAL)
    assert "may_not_leave" in caught.value.response.text or asking == "messages"
    ASKINGS[asking](served.client, "Write to nobody, please.")
    said = str(asked_of(beyond))
    assert "jane.doe" not in said and "nobody" in said


@pytest.mark.parametrize("asking", ASKINGS)
def test_what_a_key_keeps_here_does_not_leave(
    serving: Serving, beyond: FakeEngine, asking: str
) -> None:
    settings = ServeSettings(models={"api": api(beyond, model="echo")}, keys=True)
    served = holder(serving(settings=settings), never_leave=True)
    before = len(asked_of(beyond))
    with pytest.raises(openai.PermissionDeniedError):
        ASKINGS[asking](served.client, "hello")
    # The last wall, behind routes that are wrong: they take the API for a local one.
    served.gateway.models = {"api": ServedModel(url="http://127.0.0.1:1/v1")}
    with pytest.raises(openai.PermissionDeniedError, match="may not leave this machine"):
        ASKINGS[asking](served.client, "hello")
    assert len(asked_of(beyond)) == before


def test_what_is_personal_is_answered_here(
    serving: Serving, beyond: FakeEngine, state: State
) -> None:
    models = {"api": api(beyond, model="echo", fallback=["desk"]), "desk": ServedModel()}
    served = serving(settings=ServeSettings(models=models))
    assert ours(served.ask(PERSONAL))["routes"] == ["desk"]
    assert ours(served.ask("hello"))["routes"] == ["api"]
    assert "jane.doe" in str(state()["asked"])
    assert "jane.doe" not in str(asked_of(beyond))


def asked_of(at: FakeEngine) -> Any:
    with openai.OpenAI(base_url=at.url, api_key=at.key) as client:
        state: Any = client.get("/fake/state", cast_to=object)
        return state["asked"]


def talk(turns: int) -> Any:
    messages = [{"role": "system", "content": "Be kind."}]
    for turn in range(turns):
        messages += [{"role": "user", "content": f"q{turn} " * 9}]
        messages += [{"role": "assistant", "content": f"a{turn} " * 9}]
    return messages[:-1]


def test_what_is_too_long_is_refused_or_pruned(serving: Serving, state: State) -> None:
    served = serving(context=100)
    with pytest.raises(openai.BadRequestError) as caught:
        served.ask(messages=talk(8), max_tokens=20)
    assert caught.value.code == "context_length_exceeded"
    answer = served.ask(messages=talk(8), max_tokens=20, extra_body={"context": "prune"})
    receipt = ours(answer)["context"]
    assert receipt["policy"] == "prune"
    assert receipt["dropped_messages"] == len(talk(8)) - len(state()["asked"][-1]["messages"]) > 0
    assert receipt["tokens_after"] <= 80 < receipt["tokens_before"]


def test_what_is_guaranteed_is_said(serving: Serving, state: State) -> None:
    raw = serving().client.chat.completions.with_raw_response.create(
        model="echo",
        messages=[{"role": "user", "content": "hi"}],
        extra_body={"deterministic": True},
    )
    assert raw.headers["x-residency-determinism"] == ours(raw.parse())["determinism"]
    assert state()["asked"][-1]["temperature"] == 0.0


@pytest.mark.parametrize("whose", ["request", "key", "model", "settings"])
def test_what_there_is_by_the_deadline_is_given(serving: Serving, whose: str) -> None:
    model = ServedModel(timeout=0.5 if whose == "model" else None)
    settings = ServeSettings(
        models={"desk": model}, keys=True, timeout=0.5 if whose == "settings" else 60.0
    )
    served = serving("long", settings=settings)
    served = holder(served, **({"timeout": 0.5} if whose == "key" else {}))
    raw = served.client.chat.completions.with_raw_response.create(
        model="desk",
        messages=[{"role": "user", "content": "hi"}],
        extra_body={"timeout": 0.5} if whose == "request" else None,
    )
    answer = raw.parse()
    assert text(answer).startswith("0 1 2 ")
    assert answer.choices[0].finish_reason == "length"
    assert raw.headers["x-residency-finish"] == ours(answer)["finish"] == "deadline"


def test_three_choices(serving: Serving, state: State) -> None:
    answer = serving().ask("one two", n=3, seed=5)
    assert [one.message.content for one in answer.choices] == ["one two"] * 3
    assert answer.usage.completion_tokens == 6
    assert {one["seed"] for one in state()["asked"][-3:]} == {5, 6, 7}


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_banned_does_not_get_out(serving: Serving, stream: bool) -> None:
    settings = ServeSettings(models={"desk": ServedModel(banned=["top secret"])})
    answer = serving(settings=settings).ask("this is TOP Secret stuff", stream=stream)
    if stream:
        chunks = list(answer)
        said = "".join(one.choices[0].delta.content or "" for one in chunks)
        last = chunks[-1].choices[0]
    else:
        said, last = text(answer), answer.choices[0]
    assert (said, last.finish_reason) == ("this is ", "content_filter")


def test_a_loop_is_asked_for_again(serving: Serving) -> None:
    answer = serving("second-thought", max_tokens=400, context=2048).ask(f"{LOOP}||all is well")
    assert text(answer) == "all is well"
    assert ours(answer)["guards"] == ["repetition:phrase", "retry:dry"]


def test_a_loop_in_a_stream_is_cut_off(serving: Serving) -> None:
    served = serving(max_tokens=400, context=2048)
    chunks = list(served.ask(f"it was well {LOOP}", stream=True))
    said = "".join(one.choices[0].delta.content or "" for one in chunks)
    assert said.startswith("it was well and so it goes on") and len(said) < len(LOOP)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert ours(chunks[-1])["finish"] == "repetition"


def test_json_that_fails_here_is_asked_for_elsewhere(serving: Serving, fake: FakeEngine) -> None:
    models = {
        "desk": ServedModel(fallback=["api"]),
        "api": api(fake, model="second-thought", price_out=A_COIN_A_TOKEN),
    }
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    served = serving(settings=ServeSettings(models=models))
    answer = served.ask('{"a":"no"}||{"a":1}', response_format=form)
    assert text(answer) == '{"a":1}'
    assert ours(answer)["routes"] == ["desk", "api"]
    wrong, again = "invalid_json", "retry:temperature"
    assert ours(answer)["guards"] == [wrong, again, wrong, "escalate", "schema_mismatch", again]
    (kept,) = exchanges(served, 1)
    assert (kept.completion_tokens, kept.cost) == (4, 2.0)


def test_vectors_of_an_api(serving: Serving, fake: FakeEngine) -> None:
    models = {"vectors": api(fake, model="echo", price_in=A_COIN_A_TOKEN, budget=100)}
    served = serving(settings=ServeSettings(models=models))
    found = served.client.embeddings.create(model="vectors", input=["one two", "three"])
    assert [one.embedding for one in found.data] == [[7.0, 1.0], [5.0, 1.0]]
    assert (found.model, found.usage.prompt_tokens) == ("vectors", 3)
    (kept,) = exchanges(served, 1)
    assert (kept.api, kept.prompt_tokens, kept.cost) == ("embeddings", 3, 3.0)
    assert spent(served, spending.account("vectors")) == 3


@pytest.mark.parametrize("mode", ["masked", "whole"])
def test_what_is_kept_is_kept_as_configured(serving: Serving, mode: Any) -> None:
    served = serving(settings=ServeSettings(record=mode))
    served.ask(PERSONAL)
    (kept,) = exchanges(served, 1)
    whole = mode == "whole"
    assert ("jane.doe@example.com" in str(kept.request)) == whole
    assert ("jane.doe@example.com" in str(kept.response)) == whole
    raw = b"".join(one.read_bytes() for one in Store(served.folder).root.glob(f"{TRAFFIC}*"))
    assert (b"jane.doe" in raw) == whole


def test_nothing_is_kept_where_nothing_is_to_be(serving: Serving) -> None:
    served = serving(settings=ServeSettings(record="none"))
    served.ask(PERSONAL)
    files = [one for one in served.folder.rglob("*") if one.is_file()]
    assert files and not any(b"jane.doe" in one.read_bytes() for one in files)
    assert not any(one.name.startswith(TRAFFIC) for one in files)


@pytest.mark.parametrize("mode", ["masked", "whole"])
def test_a_person_is_forgotten(serving: Serving, mode: Any) -> None:
    served = serving(settings=ServeSettings(record=mode))
    served.ask("the rash of seventeen", user="patient-17")
    served.ask("the cough of eighteen", user="patient-18")
    exchanges(served, 2)
    root = Store(served.folder).root
    with contextlib.closing(TrafficStore(root / TRAFFIC)) as store:
        assert store.erase("patient-17") == 1
    (kept,) = exchanges(served, 1)
    assert "eighteen" in str(kept.request)
    raw = b"".join(one.read_bytes() for one in root.glob(f"{TRAFFIC}*"))
    assert b"seventeen" not in raw and b"patient-17" not in raw
