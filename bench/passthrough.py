"""The least that a gateway in Python can be: it hands on what comes, and looks at nothing.

    python bench/passthrough.py URL PORT

hands requests to the API at URL (with its `/v1`) on.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

HEADERS = {"content-type": "application/json"}


def create_app(url: str) -> Starlette:
    session: aiohttp.ClientSession | None = None

    async def chat(request: Request) -> Response:
        nonlocal session
        if session is None:
            session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        body = await request.body()
        answer = await session.post(f"{url}/chat/completions", data=body, headers=HEADERS)
        if answer.content_type == "text/event-stream":
            return StreamingResponse(parts(answer), media_type="text/event-stream")
        return Response(await answer.read(), answer.status, media_type="application/json")

    async def parts(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        async with answer:
            async for part in answer.content.iter_any():
                yield part

    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])


if __name__ == "__main__":
    app = create_app(sys.argv[1])
    uvicorn.run(app, port=int(sys.argv[2]), lifespan="off", log_config=None, access_log=False)
