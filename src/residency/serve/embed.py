"""POST /v1/embeddings: texts to vectors, by an API or an engine that makes them."""

from __future__ import annotations

import asyncio
from time import monotonic

from starlette.requests import Request

from residency import egress
from residency.errors import EngineTimeout
from residency.serve.apis import embeddings
from residency.serve.apis.embeddings import EmbeddingsAsked
from residency.serve.asked import Asked, Wishes
from residency.serve.deadline import limits
from residency.serve.leaving import while_wanted
from residency.serve.path import Endpoint
from residency.serve.reply import Reply
from residency.serve.routing import Target
from residency.serve.spending import prompt_bound, spending
from residency.serve.visit import Visit


class Embeddings(Endpoint):
    """The endpoint. It asks one model and no fallback: vectors of two models do not mix."""

    api = "embeddings"

    async def _serve(self, visit: Visit, request: Request, reply: Reply) -> None:
        given = await self._read(visit, request, embeddings.parse)
        visit.asked = Asked(
            api=self.api,
            model=given.model,
            prompt="\n".join(given.texts),
            options={"max_tokens": 1},
            subject=given.subject,
            wishes=Wishes(timeout=given.timeout),
        )
        self._gateway.check(visit.asked, visit.caller)
        work = self._answer(given, visit, reply)
        await while_wanted(work, request.receive, self._gateway.closing)

    async def _answer(self, given: EmbeddingsAsked, visit: Visit, reply: Reply) -> None:
        gateway, asked = self._gateway, visit.asked
        assert asked is not None
        with gateway.limited(visit):
            route = await gateway.route(asked, visit.caller)
            target = route.targets[0]
            visit.notes.routes.append(target.name)
            egress.CONFINED.set(route.confined)
            timeout = limits(asked.wishes, visit.caller, target.model, gateway.settings).timeout
            end = visit.began + timeout
            turn = gateway.admission(target.name).turn(visit.caller.name, end - monotonic())
            async with turn:
                with gateway.judged(target.name):
                    try:
                        async with asyncio.timeout(end - monotonic()):
                            body = await self._vectors(given, target, visit)
                    except TimeoutError:
                        raise EngineTimeout(f"no vectors came within {timeout:g} s") from None
        reply.headers |= gateway.rate_headers(visit.caller)
        await reply.json(body)

    async def _vectors(
        self, given: EmbeddingsAsked, target: Target, visit: Visit
    ) -> dict[str, object]:
        gateway, asked = self._gateway, visit.asked
        assert asked is not None
        most = (prompt_bound(asked), 0)
        async with gateway.fleet.lease(target.name) as station:
            visit.build = station.build
            with spending(gateway.books.ledger, target, visit.caller, visit, most):
                question = embeddings.question(given, target.name)
                found = await station.client.embeddings(question)
                visit.answer.usage = dict(found.get("usage") or {})
                return embeddings.whole(given, given.model, found)
