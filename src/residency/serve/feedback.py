"""POST /v1/feedback: what a client thinks of an answer that it got."""

from __future__ import annotations

import time
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from starlette.requests import Request

from residency.serve.asked import Caller
from residency.serve.errors import RequestError
from residency.serve.path import Endpoint
from residency.serve.reply import Reply
from residency.serve.schema import Part, invalid, read
from residency.serve.visit import Visit, exchange_id
from residency.traffic.feedback import Feedback


class Given(Part):
    """The body. `id` is the answer's, or the request's as `x-request-id` has it."""

    id: Annotated[str, Field(min_length=1, max_length=200)]
    rating: Literal["up", "down"] | None = None
    correction: Annotated[str, Field(min_length=1, max_length=100_000)] | None = None
    comment: Annotated[str, Field(min_length=1, max_length=10_000)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.rating is None and self.correction is None:
            raise invalid("give a rating, a correction, or both")
        if self.rating == "up" and self.correction is not None:
            raise invalid("an answer that is rated up needs no correction")
        if self.correction is not None and not self.correction.strip():
            raise invalid("the correction is empty")
        return self

    def by(self, caller: Caller) -> Feedback:
        """A correction says that the answer was wrong."""
        return Feedback(
            exchange=exchange_id(self.id),
            time=time.time(),
            key=caller.name,
            rating="down" if self.correction is not None else self.rating or "",
            correction=self.correction or "",
            comment=self.comment or "",
        )


class FeedbackEndpoint(Endpoint):
    """A key may rate what it asked itself; of all else it is told that it is not there."""

    api = "feedback"

    async def _serve(self, visit: Visit, request: Request, reply: Reply) -> None:
        given = await self._read(visit, request, lambda body: read(Given, body))
        self._gateway.count_request(visit.caller)
        book = self._gateway.books.feedback
        if book is None or not await book.keep(given.by(visit.caller)):
            why = "" if book else "; this endpoint keeps no record: [serve] record"
            raise RequestError(
                f"no answer to this key has the id {given.id!r}{why}",
                status=404,
                code="exchange_not_found",
                param="id",
            )
        await reply.json({"id": given.id, "object": "feedback", "kept": True})
