import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from residency.errors import EngineUnavailable
from residency.serve.fan import merged


def chunk(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


class Stream:
    def __init__(self, texts: str, *, fails: bool = False, pause: float = 0.0) -> None:
        self.texts, self.fails, self.pause, self.closed = texts, fails, pause, False

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        try:
            for text in self.texts:
                await asyncio.sleep(self.pause)
                yield chunk(text)
            if self.fails:
                raise EngineUnavailable("gone")
        finally:
            self.closed = True


async def gather(*streams: Stream) -> dict[int, str]:
    found: dict[int, str] = {}
    async for one in merged([s.chunks() for s in streams]):
        for choice in one["choices"]:
            text = found.get(choice["index"], "")
            found[choice["index"]] = text + choice["delta"]["content"]
    return found


def test_each_stream_is_a_choice() -> None:
    found = asyncio.run(gather(Stream("abc" * 30), Stream("xy", pause=0.01), Stream("")))
    assert found == {0: "abc" * 30, 1: "xy"}


def test_one_failure_ends_all() -> None:
    slow = Stream("z" * 1000, pause=0.01)
    with pytest.raises(EngineUnavailable):
        asyncio.run(gather(Stream("ab", fails=True), slow))
    assert slow.closed


def test_leaving_closes_all() -> None:
    streams = [Stream("z" * 1000, pause=0.001) for _ in range(2)]

    async def leave() -> None:
        whole = merged([s.chunks() for s in streams])
        await anext(whole)
        await whole.aclose()  # type: ignore[attr-defined]

    asyncio.run(leave())
    assert all(one.closed for one in streams)
