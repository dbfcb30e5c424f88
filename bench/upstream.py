"""A model's API that costs next to nothing: every answer is written beforehand.

It takes the flags of `llama-server`, so that the endpoint runs it as its engine (`engine.server` of
the settings); then whoever else asks finds it at the same place. It looks at no key.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from typing import Any

TOKENS = 16
"""Chunks with text in a stream; each is a write of its own."""
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": *true')
_USAGE = {"prompt_tokens": 40, "completion_tokens": TOKENS, "total_tokens": 40 + TOKENS}
# What llama.cpp sends with every chunk when it is asked for `timings_per_token`, as the endpoint
# does.
_TIMINGS = {
    "cache_n": 0,
    "prompt_n": 40,
    "prompt_ms": 112.9,
    "prompt_per_token_ms": 2.8225,
    "prompt_per_second": 354.3,
    "predicted_n": TOKENS,
    "predicted_ms": 301.2,
    "predicted_per_token_ms": 18.825,
    "predicted_per_second": 53.12,
}


def _head(kind: str, size: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{size}\r\n\r\n".encode()


def _json(value: object) -> bytes:
    body = json.dumps(value).encode()
    return _head("application/json", f"content-length: {len(body)}") + body


def _event(data: bytes) -> bytes:
    data = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def _answer(kind: str, choices: list[object], **more: object) -> dict[str, object]:
    known = {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "bench"}
    return {**known, "choices": choices, **more}


def _chunk(delta: object, finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _event(json.dumps(_answer("chat.completion.chunk", [choice], **more)).encode())


def _stream(**more: Any) -> list[bytes]:
    words = [f" word{number}" for number in range(TOKENS)]
    usage = json.dumps(_answer("chat.completion.chunk", [], usage=_USAGE)).encode()
    return [
        _head("text/event-stream", "transfer-encoding: chunked")
        + _chunk({"role": "assistant", "content": None}),
        *(_chunk({"content": word}, **more) for word in words),
        _chunk({}, "stop", **more) + _event(usage) + _event(b"[DONE]") + b"0\r\n\r\n",
    ]


_MESSAGE = {"role": "assistant", "content": "".join(f" word{n}" for n in range(TOKENS))}
_PLAIN = _json(
    _answer(
        "chat.completion",
        [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}],
        usage=_USAGE,
    )
)
_STREAMED, _TIMED = _stream(), _stream(timings=_TIMINGS)
_OTHERS = {"/health": _json({"status": "ok"}), "/props": _json({"total_slots": 64})}
_COUNT = _json({"input_tokens": 40})


class Upstream(asyncio.Protocol):
    """One connection: requests one after the other."""

    def __init__(self) -> None:
        self._given = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._given += data
        head, found, rest = self._given.partition(b"\r\n\r\n")
        size = int(length[1]) if (length := _LENGTH.search(head)) else 0
        if not found or len(rest) < size:
            return
        self._given = rest[size:]
        path = head.split(b" ", 2)[1].decode()
        if not path.endswith("/chat/completions"):
            self._transport.write(_OTHERS.get(path, _COUNT))
        elif not _STREAM.search(rest):
            self._transport.write(_PLAIN)
        else:
            self._say(_TIMED if b"timings_per_token" in rest else _STREAMED, 0)

    def _say(self, parts: list[bytes], number: int) -> None:
        self._transport.write(parts[number])
        if number + 1 < len(parts):
            self._loop.call_soon(self._say, parts, number + 1)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--port", type=int, required=True)
    asyncio.run(_serve(flags.parse_known_args()[0].port))


if __name__ == "__main__":
    main()
