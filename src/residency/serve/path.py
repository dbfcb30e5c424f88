"""The one path that every request takes, a step a line: see DESIGN.md beside this file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from residency import egress
from residency.errors import (
    EngineLoadError,
    EngineRejected,
    EngineTimeout,
    EngineUnavailable,
    ResidencyError,
)
from residency.serve.admission import Overloaded
from residency.serve.apis.dialect import Dialect
from residency.serve.asked import Api
from residency.serve.attempt import Attempt, Spoiled
from residency.serve.errors import Fault, fault_of
from residency.serve.gateway import Gateway
from residency.serve.leaving import ClientLeft, while_wanted
from residency.serve.ledger import OverBudget
from residency.serve.reply import Reply
from residency.serve.routing import Route, Target
from residency.serve.visit import Visit

CLIENT_LEFT = 499  # nginx's status for it
# A larger body is read beside the event loop: nine megabytes took seconds.
_PARSED_AT_ONCE = 64_000
_WORTH_ANOTHER = (
    EngineUnavailable,
    EngineTimeout,
    EngineLoadError,
    Overloaded,
    Spoiled,
    OverBudget,
)


T = TypeVar("T")


class Endpoint:
    """One API's endpoint, as an ASGI application: Starlette's responses can't end with their
    client. Here a request begins and ends; what is between, `_serve` says."""

    api: Api
    error: Callable[[Fault], dict[str, Any]] = staticmethod(Fault.body)

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = Visit(api=self.api)
        reply = Reply(send, {"x-request-id": visit.id})
        try:
            with self._gateway.working():
                await self._serve(visit, Request(scope, receive), reply)
        except (ClientLeft, ClientDisconnect):
            visit.status, visit.error = CLIENT_LEFT, "client_left"
        except Exception as error:
            fault = fault_of(error)
            visit.status, visit.error = fault.status, fault.code
            await self._fail(fault, visit, reply)
            if not isinstance(error, ResidencyError):
                raise  # not foreseen: uvicorn's log shall have it
        finally:
            self._gateway.record(visit)

    async def _fail(self, fault: Fault, visit: Visit, reply: Reply) -> None:
        if reply.writer:
            await reply.break_off(reply.writer.broken(fault))
        elif not reply.started:
            reply.headers |= self._gateway.rate_headers(visit.caller) | fault.headers()
            await reply.json(self.error(fault), fault.status)

    async def _serve(self, visit: Visit, request: Request, reply: Reply) -> None:
        """Answer the request. Raises what went wrong."""
        raise NotImplementedError

    async def _read(self, visit: Visit, request: Request, parse: Callable[[bytes], T]) -> T:
        """What a request asks whose key and time are right."""
        visit.caller = self._gateway.authenticate(request.headers)
        self._gateway.refuse_when_unable()
        body = await self._gateway.bodies.read(request)
        if len(body) <= _PARSED_AT_ONCE:
            return parse(body)
        return await asyncio.to_thread(parse, body)


class Path(Endpoint):
    """The endpoint of an API that generates text."""

    def __init__(self, gateway: Gateway, dialect: Dialect) -> None:
        super().__init__(gateway)
        self._dialect = dialect
        self.api = dialect.name
        self.error = dialect.error

    async def _serve(self, visit: Visit, request: Request, reply: Reply) -> None:
        visit.asked = await self._read(visit, request, self._dialect.parse)
        self._gateway.check(visit.asked, visit.caller)
        await while_wanted(self._answer(visit, reply), request.receive, self._gateway.closing)

    async def _answer(self, visit: Visit, reply: Reply) -> None:
        asked = visit.asked
        assert asked is not None
        with self._gateway.limited(visit):
            route = await self._gateway.route(asked, visit.caller)
            egress.CONFINED.set(route.confined)
            reply.headers |= self._gateway.rate_headers(visit.caller)
            await self._first_that_can(route, visit, reply)

    async def _first_that_can(self, route: Route, visit: Visit, reply: Reply) -> None:
        """Ask one target after the other, until the first byte of an answer has gone out."""
        *before, last = route.targets
        for target in before:
            try:
                return await self._ask(target, visit, reply, last=False)
            except ResidencyError as error:
                if reply.started or not _worth_another(error):
                    raise
        return await self._ask(last, visit, reply, last=True)

    async def _ask(self, target: Target, visit: Visit, reply: Reply, *, last: bool) -> None:
        """Ask one target, in its turn. Where its engine dies before it has said a word and comes
        back, it is asked again."""
        gateway = self._gateway
        visit.notes.routes.append(target.name)
        attempt = Attempt(
            gateway=gateway,
            dialect=self._dialect,
            target=target,
            visit=visit,
            reply=reply,
            last=last,
        )
        turn = gateway.admission(target.name).turn(visit.caller.name, attempt.left())
        async with turn as queued:
            visit.notes.queued += queued
            with gateway.judged(target.name):
                try:
                    await attempt.run()
                except EngineUnavailable:
                    if reply.started or target.model.url or not last:
                        raise
                    await gateway.fleet.recovered(target.name, attempt.left())
                    visit.notes.guards.append("asked_again")
                    await attempt.run()


def _worth_another(error: ResidencyError) -> bool:
    """Whether another model may do better; not where the request itself was refused."""
    if isinstance(error, EngineRejected):
        return error.status != HTTPStatus.BAD_REQUEST
    return isinstance(error, _WORTH_ANOTHER)
