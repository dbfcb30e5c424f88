"""One client's connection: uvicorn's, with an end to clients that stall.

uvicorn gives an idle connection five seconds, but the first byte ends that: a client that sent half
a request's head, or did not read its answer, kept its connection for ever.
"""

from __future__ import annotations

import asyncio
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""For the head of a request, from the connection's start or the end of the answer before."""
READ_SECONDS = 30.0
"""For reading some of what was sent."""


class Connection(H11Protocol):
    """Cuts off a client that takes longer than `head_seconds` and `read_seconds`."""

    head_seconds = HEAD_SECONDS
    read_seconds = READ_SECONDS
    _head: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

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

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            _cancel(self._head)

    def on_response_complete(self) -> None:
        self._await_head()
        super().on_response_complete()  # begins the next request, if that is here already

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._unread)

    def send_400_response(self, msg: str) -> None:
        """Where an answer has begun, there is no room for another."""
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.abort()

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
