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
from residency.serve.chat import ChatCompletions
from residency.serve.errors import RequestError, fault_of
from residency.serve.gateway import Gateway
from residency.serve.question import check_model
from residency.serve.reply import fault_response
from residency.types import Release


def create_app(gateway: Gateway) -> Starlette:
    """The gateway as an ASGI application. The engine's life is the caller's affair."""
    endpoints = _Endpoints(gateway)
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", ChatCompletions(gateway), methods=["POST"]),
            Route("/v1/models", endpoints.models, methods=["GET"]),
            Route("/v1/models/{id:path}", endpoints.model, methods=["GET"]),
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

    async def models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_listing(self._gateway.release)]})

    async def model(self, request: Request) -> Response:
        check_model(request.path_params["id"], self._gateway.release)
        return JSONResponse(_listing(self._gateway.release))

    async def health(self, _: Request) -> Response:
        """The process lives."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """The engine answers and we take work; else 503 with the reason."""
        self._gateway.refuse_when_draining()
        if not await self._gateway.client().health():
            raise EngineUnavailable("the engine does not answer", hint="it is being watched; wait")
        return JSONResponse({"status": "ready", "model": self._gateway.release.model})


def _listing(release: Release) -> dict[str, Any]:
    return {
        "id": release.model,
        "object": "model",
        "created": int(datetime.fromisoformat(release.created).timestamp()),
        "owned_by": "residency",
    }


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
