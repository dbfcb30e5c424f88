"""One target asked, and its answer sent: fitted, asked, guarded, in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from residency.errors import EngineTimeout, ResidencyError
from residency.serve.answer import Identity, identity
from residency.serve.apis.dialect import Dialect
from residency.serve.asked import Asked
from residency.serve.deadline import Limits, deadline, limits
from residency.serve.fan import merged
from residency.serve.gateway import Gateway
from residency.serve.guards import RETRIES, guard, retry_for, rules_for, spoiled
from residency.serve.question import body_of, check_able, opened
from residency.serve.reply import Reply
from residency.serve.routing import Target
from residency.serve.spending import spending
from residency.serve.station import Station
from residency.serve.visit import Visit

Chunks = AsyncGenerator[dict[str, Any]]
_LEAST_SECONDS = 0.001


class Spoiled(ResidencyError):
    """The answer loops, is empty or is no JSON, and asking again did not help."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """Asks `target` for `visit` and sends what it says by `reply`; `last` says that nobody else can
    be asked after it, so that a spoiled answer is better than none."""

    gateway: Gateway
    dialect: Dialect
    target: Target
    visit: Visit
    reply: Reply
    last: bool

    async def run(self) -> None:
        """Raises the `EngineError` tree and `RequestError`; `reply.started` says whether the client
        has a part of the answer then."""
        visit, gateway = self.visit, self.gateway
        asked = visit.asked
        assert asked is not None
        deterministic = asked.wishes.deterministic
        async with gateway.fleet.lease(self.target.name, deterministic=deterministic) as station:
            if station.template:
                check_able(asked, station.template)
            asked = await self._fitted(asked, station)
            visit.build = station.build
            await self._send(asked, station)

    def left(self) -> float:
        """Seconds until the answer must be there."""
        assert self.visit.asked is not None
        timeout = self._limits(self.visit.asked).timeout
        return max(_LEAST_SECONDS, timeout - (monotonic() - self.visit.began))

    async def _fitted(self, asked: Asked, station: Station) -> Asked:
        if station.release and (more := opened(asked, station.release)) is not asked:
            self.reply.headers["x-residency-system"] = "added"
            asked = more
        if station.window is None:
            return asked
        policy = asked.wishes.context or self.target.model.context
        try:
            async with asyncio.timeout(self.left()):
                return await station.window.fit(asked, policy, self.visit.notes)
        except TimeoutError:
            raise EngineTimeout("time was over before the prompt was counted and fitted") from None

    async def _send(self, asked: Asked, station: Station) -> None:
        notes, reply = self.visit.notes, self.reply
        reply.headers["x-residency-build"] = station.build
        if asked.wishes.deterministic:
            notes.determinism = station.guarantee.words
            reply.headers["x-residency-determinism"] = notes.determinism
        who = identity(
            self.dialect.prefix + self.visit.token, model=asked.model, build=station.digest
        )
        if asked.stream:
            await self._stream(asked, station, who)
        else:
            await self._collect(asked, station)
            if notes.finish:
                reply.headers["x-residency-finish"] = notes.finish
            await reply.json(self.dialect.whole(asked, who, self.visit.answer, notes.facts()))

    async def _stream(self, asked: Asked, station: Station, who: Identity) -> None:
        """The head goes out with the first chunk, so that a refusal still has its own status."""
        async with self._asking(asked, station, {}) as chunks:
            writer = self.dialect.writer(asked, who, self.visit.answer)
            async for chunk in chunks:
                if not self.reply.started:
                    await self.reply.open_stream(writer)
                self.visit.answer.add(chunk)
                await self.reply.event(writer.chunk(chunk))
        await self.reply.close_stream(writer.last(self.visit.notes.facts()))

    async def _collect(self, asked: Asked, station: Station) -> None:
        """The whole answer, asked for again where a guard wants it so. Raises `Spoiled`."""
        notes, steps = self.visit.notes, self._retries(asked)
        changed: Mapping[str, Any] | None = {}
        while changed is not None:
            async with self._asking(asked, station, changed) as chunks:
                async for chunk in chunks:
                    self.visit.answer.add(chunk)
            if not spoiled(notes):
                return
            changed = retry_for(notes, steps)
        if not self.last:
            raise Spoiled(f"{self.target.name} gave no usable answer: {', '.join(notes.guards)}")

    def _retries(self, asked: Asked) -> tuple[str, ...]:
        """DRY is llama.cpp's own; what was promised to be the same each time is not asked anew."""
        if asked.wishes.deterministic:
            return ()
        return tuple(RETRIES) if self._on_llama_cpp else ("temperature",)

    @property
    def _on_llama_cpp(self) -> bool:
        return not self.target.model.url and self.target.model.engine == "llama.cpp"

    @asynccontextmanager
    async def _asking(
        self, asked: Asked, station: Station, changed: Mapping[str, Any]
    ) -> AsyncIterator[Chunks]:
        """A new answer's chunks. Every asking is paid for, so each needs room in the budgets."""
        visit, books = self.visit, self.gateway.books
        visit.ask_again()
        most = self.gateway.most(asked, self.target.name)
        with spending(books.ledger, self.target, visit.caller, visit, most):
            async with aclosing(self._chunks(asked, station, changed)) as chunks:
                yield chunks

    def _chunks(self, asked: Asked, station: Station, changed: Mapping[str, Any]) -> Chunks:
        """The engine's stream, in time and guarded; `changed` are the options of a retry."""
        ttft, spent = self._limits(asked).ttft, monotonic() - self.visit.began
        streams = [station.client.stream(one) for one in self._bodies(asked, station, changed)]
        source = streams[0] if len(streams) == 1 else merged(streams)
        timed = deadline(
            source,
            timeout=self.left(),
            ttft=None if ttft is None else max(_LEAST_SECONDS, ttft - spent),
            notes=self.visit.notes,
        )
        return guard(timed, rules_for(asked, self.target.model), self.visit.notes)

    def _limits(self, asked: Asked) -> Limits:
        settings = self.gateway.settings
        return limits(asked.wishes, self.visit.caller, self.target.model, settings)

    def _bodies(
        self, asked: Asked, station: Station, changed: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """The engine's request for each choice; they differ by their seeds."""
        body = {**body_of(asked, station.release), **changed}
        if self._on_llama_cpp:
            body["timings_per_token"] = True  # exact counts also of an answer that is cut off
            if asked.api == "messages" and "stop" in body:
                body["verbose"] = True  # the last chunk then says which stop sequence ended it
        if asked.wishes.deterministic:
            body |= {"temperature": 0.0, "seed": body.get("seed", 0), **station.guarantee.fields}
        if asked.n == 1 or "seed" not in body:
            return [body] * asked.n
        return [{**body, "seed": body["seed"] + index} for index in range(asked.n)]
