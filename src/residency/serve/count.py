"""POST /v1/messages/count_tokens, Anthropic's count of a prompt's tokens; exact."""

from __future__ import annotations

from starlette.requests import Request

from residency.serve.apis.message_events import error_body
from residency.serve.apis.messages import parse_count
from residency.serve.errors import RequestError
from residency.serve.path import Endpoint
from residency.serve.reply import Reply
from residency.serve.visit import Visit


class TokenCount(Endpoint):
    """The endpoint. Nothing is answered, so nothing is recorded."""

    api = "messages"
    error = staticmethod(error_body)

    async def _serve(self, visit: Visit, request: Request, reply: Reply) -> None:
        asked = await self._read(visit, request, parse_count)
        self._gateway.check(asked, visit.caller)
        self._gateway.count_request(visit.caller)
        async with self._gateway.fleet.lease(asked.model) as station:
            if station.window is None:
                raise RequestError(
                    f"the tokens of {asked.model} cannot be counted here", code="not_supported"
                )
            count = await station.window.count(asked)
        await reply.json({"input_tokens": count})
