"""The HTTP application: which path leads where, and every failure in OpenAI's form."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from residency.errors import EngineUnavailable, ResidencyError
from residency.serve import access
from residency.serve.apis import DIALECTS
from residency.serve.count import TokenCount
from residency.serve.embed import Embeddings
from residency.serve.errors import RequestError, fault_of
from residency.serve.feedback import FeedbackEndpoint
from residency.serve.gateway import Gateway
from residency.serve.path import Path
from residency.serve.reply import fault_response
from residency.watch.metrics import CONTENT_TYPE


def create_app(gateway: Gateway) -> Starlette:
    """The gateway as an ASGI application. The engines' life is the caller's affair."""
    endpoints = _Endpoints(gateway)
    asked = [Route(one.path, Path(gateway, one), methods=["POST"]) for one in DIALECTS]
    app = Starlette(
        routes=[
            *asked,
            Route("/v1/embeddings", Embeddings(gateway), methods=["POST"]),
            Route("/v1/messages/count_tokens", TokenCount(gateway), methods=["POST"]),
            Route("/v1/feedback", FeedbackEndpoint(gateway), methods=["POST"]),
            Route("/v1/models", endpoints.models, methods=["GET"]),
            Route("/v1/models/{id:path}", endpoints.model, methods=["GET"]),
            Route("/v1/residency/watch", endpoints.watch, methods=["GET"]),
            Route("/metrics", endpoints.metrics, methods=["GET"]),
            Route("/health", endpoints.health, methods=["GET"]),
            Route("/ready", endpoints.ready, methods=["GET"]),
        ],
        exception_handlers={
            HTTPException: _http_error,
            ResidencyError: _failed,
            Exception: _failed,
        },
    )
    app.router.redirect_slashes = False
    return app


class _Endpoints:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def models(self, request: Request) -> Response:
        """The models that exist for the caller's key."""
        caller = self._gateway.authenticate(request.headers)
        names = access.visible(caller, self._gateway.models)
        return JSONResponse({"object": "list", "data": [self._listing(one) for one in names]})

    async def model(self, request: Request) -> Response:
        caller, name = self._gateway.authenticate(request.headers), request.path_params["id"]
        access.allow_model(caller, name, self._gateway.models)
        return JSONResponse(self._listing(name))

    def _listing(self, name: str) -> dict[str, Any]:
        release = self._gateway.fleet.release(name)
        created = int(datetime.fromisoformat(release.created).timestamp()) if release else 0
        return {"id": name, "object": "model", "created": created, "owned_by": "residency"}

    async def watch(self, request: Request) -> Response:
        """What `Observer.snapshot` tells, to whoever may see all models."""
        access.allow_all(self._gateway.authenticate(request.headers))
        return JSONResponse(self._gateway.observer.snapshot())

    async def metrics(self, request: Request) -> Response:
        """The same figures for Prometheus."""
        access.allow_all(self._gateway.authenticate(request.headers))
        return Response(self._gateway.observer.exposition(), media_type=CONTENT_TYPE)

    async def health(self, _: Request) -> Response:
        """The process lives."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """The engines answer and we take work; else 503 with the reason."""
        self._gateway.refuse_when_unable()
        if down := await self._gateway.fleet.unwell():
            words = "; ".join(f"{name}: {why}" for name, why in down.items())
            raise EngineUnavailable(words, hint="it is being watched; wait")
        refused = self._gateway.fleet.refused()
        more = {"refused": refused} if refused else {}
        return JSONResponse({"status": "ready", "models": list(self._gateway.models), **more})


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "unknown_url" if error.status_code == 404 else "method_not_allowed"
    place = f"{request.method} {request.url.path}"
    known = RequestError(f"{place}: {error.detail}", status=error.status_code, code=code)
    response = fault_response(fault_of(known))
    response.headers.update(error.headers or {})
    return response


async def _failed(_: Request, error: Exception) -> Response:
    """What was not foreseen Starlette raises again after this answer, and uvicorn logs it."""
    return fault_response(fault_of(error))
