"""The process that ONNX Runtime lives in; see `residency.engines.host`.

It speaks what `residency.engines.client` asks of llama.cpp's server. Answers are always streamed.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from residency.engines.decoding import Wishes
from residency.engines.host import HOST, Server, host
from residency.engines.onnx_model import OnnxModel, Piece
from residency.errors import ModelError
from residency.types import Message

KEY_VARIABLE = "RESIDENCY_ONNX_KEY"
START_SECONDS = 0.01


class Endpoints:
    """Every path but `/health` asks for the key."""

    def __init__(self, model: OnnxModel, alias: str, key: str, facts: Mapping[str, Any]) -> None:
        self._model, self._alias = model, alias
        self._key, self._facts = f"Bearer {key}".encode(), facts

    def app(self) -> Starlette:
        asked = {
            "/v1/chat/completions": self._chat,
            "/v1/chat/completions/input_tokens": self._count,
            "/v1/completions": self._complete,
            "/completion": self._next,
            "/tokenize": self._tokenize,
            "/apply-template": self._template,
        }
        routes = [Route(path, self._opened(ask), methods=["POST"]) for path, ask in asked.items()]
        routes += [Route("/health", self._health), Route("/props", self._opened(self._props))]
        failed = {HTTPException: _failed, ModelError: _refused, RuntimeError: _broken}
        return Starlette(routes=routes, exception_handlers=failed)

    def _opened(self, ask: Any) -> Any:
        async def endpoint(request: Request) -> Response:
            given = request.headers.get("authorization", "").encode()
            if not secrets.compare_digest(given, self._key):
                raise HTTPException(401, "the key is missing or wrong")
            try:
                answer: Response = await ask(await request.json() if await request.body() else {})
            except (KeyError, TypeError, ValueError) as error:
                raise HTTPException(400, f"the request cannot be read: {error!r}") from error
            return answer

        return endpoint

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _props(self, _: Any) -> Response:
        return JSONResponse(self._facts)

    async def _template(self, body: Any) -> Response:
        return JSONResponse({"prompt": self._prompt(body)})

    async def _tokenize(self, body: Any) -> Response:
        special = bool(body.get("add_special"))
        return JSONResponse({"tokens": self._model.tokens(body["content"], add_special=special)})

    async def _count(self, body: Any) -> Response:
        return JSONResponse({"input_tokens": len(self._model.tokens(self._prompt(body)))})

    async def _next(self, body: Any) -> Response:
        """The likeliest tokens after `prompt`, which are ids; nothing else of llama.cpp's path."""
        top = await self._model.next(body["prompt"], body["n_probs"])
        told = [{"id": token, "logprob": logprob} for token, logprob in top]
        return JSONResponse({"completion_probabilities": [{"top_logprobs": told}]})

    async def _chat(self, body: Any) -> Response:
        ids = self._model.tokens(self._prompt(body))
        return self._stream(body, ids, lambda text: {"delta": {"content": text}})

    async def _complete(self, body: Any) -> Response:
        ids = self._model.tokens(body["prompt"], add_special=True)
        return self._stream(body, ids, lambda text: {"text": text})

    def _prompt(self, body: Any) -> str:
        messages = [
            Message(role=one.pop("role"), content=one.pop("content") or "", extra=one)
            for one in body["messages"]
        ]
        return self._model.prompt(messages, body.get("tools") or ())

    def _stream(self, body: Any, ids: list[int], form: Any) -> Response:
        if len(ids) >= self._model.context:
            size = self._model.context
            raise HTTPException(400, f"the prompt has {len(ids)} tokens, the context {size}")
        try:
            wishes = Wishes.model_validate(body)
        except ValidationError as error:
            first = error.errors()[0]
            raise HTTPException(400, f"{first['loc'][0]}: {first['msg']}") from error
        events = self._events(ids, wishes, schema_of(wishes.response_format), form)
        return StreamingResponse(events, media_type="text/event-stream")

    async def _events(
        self, ids: list[int], wishes: Wishes, schema: Any, form: Any
    ) -> AsyncIterator[bytes]:
        head = {"created": int(time.time()), "model": self._alias}
        count = 0
        try:
            async for piece in self._model.answer(ids, wishes, schema):
                count += 1
                yield _event({**head, "choices": [_choice(piece, form)]})
        except RuntimeError as error:
            # Before the first token it is the request that cannot be met: a schema that is none.
            code = 500 if count else 400
            yield _event({"error": {"message": str(error), "code": code}})
        usage = {
            "prompt_tokens": len(ids),
            "completion_tokens": count,
            "total_tokens": len(ids) + count,
        }
        yield _event({**head, "choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"


def schema_of(form: Mapping[str, Any]) -> Any:
    """The JSON schema that OpenAI's `response_format` asks for; None for plain text."""
    if form.get("type") == "json_schema":
        return form["json_schema"]["schema"]
    return {"type": "object"} if form.get("type") == "json_object" else None


def _choice(piece: Piece, form: Any) -> dict[str, Any]:
    told = {"logprobs": {"content": [piece.logprobs]}} if piece.logprobs else {}
    ended = {"finish_reason": piece.finish or None, "stop_reason": piece.stop or None}
    return {"index": 0, **form(piece.text), **told, **ended}


def _event(value: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def _error(status: int, words: str) -> Response:
    return JSONResponse({"error": {"message": words, "code": status}}, status)


async def _failed(_: Request, error: Any) -> Response:
    return _error(error.status_code, error.detail)


async def _refused(_: Request, error: Any) -> Response:
    return _error(400, error.message)


async def _broken(_: Request, error: Any) -> Response:
    """What onnxruntime raises, and we for a model that computes NaN."""
    return _error(500, str(error))


class _Inside:
    """The server in a thread of this process; it goes when the process goes."""

    def __init__(self, spec: dict[str, Any]) -> None:
        size = {name: spec[name] for name in ("context", "slots", "threads")}
        model = OnnxModel(Path(spec["model"]), **size)
        facts = {
            "chat_template": model.tokenizer.chat_template,
            "chat_template_caps": {"supports_tools": False},
            "total_slots": spec["slots"],
            "model_path": spec["model"],
        }
        app = Endpoints(model, spec["alias"], os.environ.pop(KEY_VARIABLE), facts).app()
        place = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{place.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
        self._thread = threading.Thread(target=server.run, args=([place],), daemon=True)
        self._thread.start()
        while self._thread.is_alive() and not server.started:
            time.sleep(START_SECONDS)

    def exit_code(self) -> int | None:
        return None if self._thread.is_alive() else 1

    def stop(self) -> None:
        """Nothing is left to do: an answer at work ends with the process."""


def _server(spec: dict[str, Any]) -> Server:
    return _Inside(spec)


if __name__ == "__main__":
    host(_server)
