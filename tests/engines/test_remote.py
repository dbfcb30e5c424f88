"""An API elsewhere: asked under its own names, and its refusals sorted by who can mend them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import aiohttp
import pytest

from residency.config import ServedModel
from residency.egress import CONFINED
from residency.engines.remote import RemoteClient
from residency.errors import (
    EgressRefused,
    EngineError,
    EngineRejected,
    EngineTimeout,
    EngineUnavailable,
    SettingsError,
)
from tests.fakes.engine import FakeEngine

T = TypeVar("T")
VARIABLE = "RESIDENCY_TEST_KEY"
BODY = {
    "model": "here",
    "messages": [{"role": "user", "content": "one two three"}],
    "temperature": 0.5,
    "max_tokens": 9,
}


@pytest.fixture
def api(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    monkeypatch.setenv(VARIABLE, fake.key)
    return fake


def asking(
    api: FakeEngine,
    question: Callable[[RemoteClient], Awaitable[T]],
    timeout: float = 30.0,
    **more: str,
) -> T:
    served = ServedModel(**{"url": api.url, "model": "echo", "key_variable": VARIABLE, **more})  # type: ignore[arg-type]

    async def run() -> T:
        async with RemoteClient(served, timeout) as client:
            return await question(client)

    return asyncio.run(run())


def state(api: FakeEngine) -> Any:
    async def look() -> Any:
        headers = {"Authorization": f"Bearer {api.key}"}
        async with aiohttp.request("GET", api.url + "/fake/state", headers=headers) as response:
            return await response.json()

    return asyncio.run(look())


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_it_answers_whether_or_not_the_url_has_v1(api: FakeEngine, path: str) -> None:
    answer = asking(api, lambda client: client.chat(BODY), url=api.url + path)
    assert (answer.text, answer.completion_tokens) == ("one two three", 3)


def test_any_other_path_is_left_as_it_is(api: FakeEngine) -> None:
    with pytest.raises(EngineRejected) as caught:
        asking(api, lambda client: client.chat(BODY), url=api.url + "/v1beta/openai")
    assert caught.value.status == 404


def test_the_api_is_asked_by_its_own_name_and_for_what_it_knows(api: FakeEngine) -> None:
    ours = {"cache_prompt": True, "id_slot": 1, "top_k": 1, "dry_multiplier": 0.8}
    asking(api, lambda client: client.chat({**BODY, **ours}), model="gpt-there")
    (asked,) = state(api)["asked"]
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    assert asked == {**BODY, "model": "gpt-there", **stream}


def test_connections_are_kept(api: FakeEngine) -> None:
    async def thrice(client: RemoteClient) -> None:
        for _ in range(3):
            await client.chat(BODY)

    asking(api, thrice)
    assert state(api)["connections"] == 1


def test_leaving_early_ends_the_work_there(api: FakeEngine) -> None:
    async def leave(client: RemoteClient) -> None:
        chunks = client.chat_stream(BODY)
        await anext(chunks)
        await chunks.aclose()

    asking(api, leave, model="long")
    seen = state(api)
    assert (seen["at_work"], seen["left"]) == (0, 1)


@pytest.mark.parametrize(
    ("model", "kind", "words"),
    [
        ("400", EngineRejected, "exceeds the available context"),
        ("401", EngineRejected, "refuses our key"),
        ("429", EngineUnavailable, "too many requests"),
        ("500", EngineUnavailable, "internal error"),
        ("503", EngineUnavailable, "Loading model"),
        ("drop", EngineUnavailable, "the API at 127.0.0.1 went away"),
        ("end-early", EngineUnavailable, "in the middle of an answer"),
        ("error-mid-stream", EngineUnavailable, "decode failed"),
    ],
)
def test_who_can_mend_it(api: FakeEngine, model: str, kind: type[EngineError], words: str) -> None:
    with pytest.raises(kind, match=words):
        asking(api, lambda client: client.chat(BODY), model=model)


def test_an_api_that_is_late(api: FakeEngine) -> None:
    with pytest.raises(EngineTimeout, match=r"the API at 127\.0\.0\.1"):
        asking(api, lambda client: client.chat(BODY), timeout=0.2, model="hang")


def test_our_key_is_not_quoted_to_clients(api: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "wrong")
    with pytest.raises(EngineRejected) as caught:
        asking(api, lambda client: client.chat(BODY))
    assert caught.value.status == 401
    assert "Invalid API Key" not in caught.value.message
    assert VARIABLE in caught.value.hint


def test_a_key_that_is_not_set_is_a_fault_of_the_settings() -> None:
    with pytest.raises(SettingsError, match="RESIDENCY_UNSET"):
        RemoteClient(ServedModel(url="http://127.0.0.1", key_variable="RESIDENCY_UNSET"))


def test_a_confined_request_does_not_go_out() -> None:
    async def play() -> None:
        CONFINED.set(True)
        async with RemoteClient(ServedModel(url="http://192.0.2.1:9")) as client:
            await client.chat(BODY)

    with pytest.raises(EgressRefused, match=r"192\.0\.2\.1"):
        asyncio.run(play())
