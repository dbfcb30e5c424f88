"""A client that leaves takes its work along."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Callable
from typing import Any

import pytest

from residency.serve.errors import ClosingError
from residency.serve.leaving import ClientLeft, Closing, while_wanted
from tests.engines.processes import eventually
from tests.serve.conftest import Served


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("behaviour", ["long", "hang"])
def test_the_engine_is_freed(
    serving: Callable[..., Served],
    state: Callable[[], dict[str, Any]],
    behaviour: str,
    stream: bool,
) -> None:
    served = serving(behaviour)
    before = state()
    body = {"model": behaviour, "stream": stream, "messages": [{"role": "user", "content": "x"}]}
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    assert eventually(lambda: state()["at_work"] == before["at_work"] + 1)
    connection.close()
    assert eventually(lambda: state()["left"] == before["left"] + 1)
    assert state()["at_work"] == before["at_work"]


async def _forever() -> dict[str, str]:
    await asyncio.Event().wait()
    raise AssertionError


async def _left() -> dict[str, str]:
    return {"type": "http.disconnect"}


def test_work_that_ends_first_is_done() -> None:
    async def work() -> None:
        done.append(1)

    done: list[int] = []
    asyncio.run(while_wanted(work(), _forever, Closing()))
    assert done == [1]


def test_what_the_work_raises_comes_out() -> None:
    async def work() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        asyncio.run(while_wanted(work(), _forever, Closing()))


@pytest.mark.parametrize(("closing", "raised"), [(False, ClientLeft), (True, ClosingError)])
def test_work_is_cancelled_and_has_ended(closing: bool, raised: type[Exception]) -> None:
    ended: list[int] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended.append(1)

    async def run() -> None:
        event = Closing()
        if closing:
            asyncio.get_running_loop().call_later(0.01, event.set)
        with pytest.raises(raised):
            await while_wanted(work(), _forever if closing else _left, event)
        assert ended == [1]

    asyncio.run(run())


def test_work_does_not_begin_when_all_is_closing() -> None:
    async def work() -> None:
        raise AssertionError

    async def run() -> None:
        event = Closing()
        event.set()
        with pytest.raises(ClosingError):
            await while_wanted(work(), _forever, event)

    asyncio.run(run())


def test_whoever_cancels_the_task_means_all_of_it() -> None:
    async def run() -> None:
        event = Closing()
        task = asyncio.create_task(while_wanted(asyncio.sleep(3600), _forever, event))
        await asyncio.sleep(0.01)
        task.cancel()
        event.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
