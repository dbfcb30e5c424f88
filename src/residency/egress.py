"""Where a connection to a model is opened, and where one that may not leave is refused.

The routes keep a confined request on this machine already; this is what holds when they are wrong.
In a sealed process `residency.sealed` refuses the rest.
"""

from __future__ import annotations

import socket
from contextvars import ContextVar

import aiohttp
from aiohttp.abc import ResolveResult

from residency.errors import EgressRefused
from residency.sealed import address_of, is_local

CONFINED: ContextVar[bool] = ContextVar("confined", default=False)
"""This request may not leave the machine. Set it in the request's own task, before work is given
to others: they inherit it."""


def guarded_connector(*, force_close: bool = False) -> aiohttp.TCPConnector:
    """A connector without a limit of connections, for the running event loop.

    A confined request meets `EgressRefused`, unless the destination is a loopback address: by
    itself, or as what its name is found to be.
    """
    # No cache of names: it would hand a look-up of one request to another, past the resolver.
    return _Guarded(
        limit=0, force_close=force_close, resolver=_GuardedResolver(), use_dns_cache=False
    )


class _GuardedResolver(aiohttp.ThreadedResolver):
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        for one in found:
            _check(one["host"], host)
        return found


class _Guarded(aiohttp.TCPConnector):
    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.connector.Connection:
        host = req.url.host or ""
        if CONFINED.get() and address_of(host):
            _check(host, host)
        connection = await super().connect(req, traces, timeout)
        # One that was kept open for others has passed no check of ours.
        if connection.transport and (peer := connection.transport.get_extra_info("peername")):
            try:
                _check(peer[0], host)
            except EgressRefused:
                connection.release()
                raise
        return connection


def _check(address: str, host: str) -> None:
    if CONFINED.get() and not is_local(address):
        where = host if host == address else f"{host} ({address})"
        raise EgressRefused(f"this request may not leave this machine, and {where} is beyond it")
