"""One client's connection: uvicorn's, with an end to clients that stall or send too much.

uvicorn gives an idle connection five seconds, but the first byte ends that: a client that sent half
a request's head, or did not read its answer, kept its connection for ever. Nor does its fast parser
bound the length of a head.
"""

from __future__ import annotations

import asyncio
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from residency.serve.answer import dumps
from residency.serve.errors import RequestError, fault_of

HEAD_SECONDS = 10.0
"""For the head of a request, from the connection's start or the end of the answer before."""
READ_SECONDS = 30.0
"""For reading some of what was sent."""
HEAD_BYTES = 64_000
"""Of a request's head, its trailers included."""
_NO_HTTP = "Invalid HTTP request received."


class Connection(HttpToolsProtocol):
    """Cuts off a client that takes longer than `head_seconds` and `read_seconds`."""

    head_seconds = HEAD_SECONDS
    read_seconds = READ_SECONDS
    _head: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    # Bytes of a head that is not whole, and bytes of the fields of one.
    _unfinished = 0
    _fields = 0
    _in_head = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        # `send` waits as soon as the client does not keep up, and nothing piles up here. With a
        # limit of 0 asyncio's TLS pauses at an empty buffer, and never goes on.
        self.transport.set_write_buffer_limits(high=1)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        _cancel(self._head)
        _cancel(self._unread)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._unfinished += len(data)
        super().data_received(data)
        if self._in_head and self._unfinished > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(_NO_HTTP)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._fields = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += len(name) + len(value)
        if self._fields > HEAD_BYTES:
            raise ValueError("too long a head")  # the parser makes it its own error: a 400
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._unfinished = False, 0
        super().on_headers_complete()
        _cancel(self._head)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True

    def on_response_complete(self) -> None:
        if not self.pipeline:
            self._await_head()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._unread)

    def send_400_response(self, msg: str) -> None:
        """Where an answer has begun, or others are to come first, there is no room for another."""
        cycle = self.cycle
        answered = cycle is None or (cycle.response_complete and self._in_head)
        if self.pipeline or (not answered and cycle.response_started):
            self.transport.abort()
            return
        fault = fault_of(RequestError(msg, code="invalid_http"))
        body = dumps(fault.body()).encode()
        head = [b"HTTP/1.1 400 Bad Request", b"content-type: application/json"]
        head += [f"{name}: {value}".encode() for name, value in fault.headers().items()]
        head += [b"content-length: %d" % len(body), b"connection: close", b"", body]
        self.transport.write(b"\r\n".join(head))
        self.transport.close()

    def _await_head(self) -> None:
        _cancel(self._head)
        self._head = self.loop.call_later(self.head_seconds, self._no_head)

    def _no_head(self) -> None:
        if self.flow.write_paused:
            self._await_head()  # it still reads the answer before
        else:
            self.transport.abort()

    def _await_reader(self) -> None:
        size = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(self.read_seconds, self._no_reader, size)

    def _no_reader(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:
            self._await_reader()
        else:
            self.transport.abort()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer:
        timer.cancel()
