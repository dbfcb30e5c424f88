"""What the requests of an endpoint share: who may ask, whose turn it is, which models there are."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from residency.config import ServedModel, ServeSettings, WatchSettings
from residency.errors import EngineLoadError, EngineTimeout, EngineUnavailable
from residency.serve import access, routing
from residency.serve.admission import Admission
from residency.serve.asked import ANYONE, Asked, Caller, Wishes
from residency.serve.body import Bodies
from residency.serve.breaker import Breaker
from residency.serve.deadline import limits
from residency.serve.errors import ClosingError, RequestError, stalled
from residency.serve.feedback_book import FeedbackBook
from residency.serve.fleet import Fleet
from residency.serve.keys import KeyRing
from residency.serve.leaving import Closing
from residency.serve.ledger import Ledger
from residency.serve.limits import Limits
from residency.serve.observed import finished
from residency.serve.spending import account, prompt_bound
from residency.serve.visit import Visit
from residency.traffic import pii
from residency.traffic.mask import texts
from residency.traffic.writer import Recorder
from residency.watch.observer import Observer
from residency.watch.samples import Budget

REMOTE_SLOTS = 64
"""Requests that an API elsewhere may have at work at once."""
LONGEST_ANSWER = 16_384
"""Tokens that an answer of an API elsewhere may have where the request sets no limit."""
# A longer prompt is searched for personal data beside the event loop.
_SEARCHED_AT_ONCE = 64_000
# A model that was given less than this of its time before it was late has not failed: else the
# requests of one impatient client would close it to everyone.
_FAIR_SHARE = 0.5
_MODEL_FAILED = (EngineUnavailable, EngineTimeout, EngineLoadError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Books:
    """What is written down: keys, budgets, exchanges, what is said of them; None where the settings
    don't ask for it."""

    ring: KeyRing | None = None
    ledger: Ledger | None = None
    recorder: Recorder | None = None
    feedback: FeedbackBook | None = None


class Gateway:
    """Belongs to one event loop. `at_work` counts the requests that are being answered. Once
    `draining`, new work is refused; `closing` ends what is still at work."""

    def __init__(
        self,
        settings: ServeSettings,
        models: Mapping[str, ServedModel],
        fleet: Fleet,
        books: Books,
        *,
        sealed: bool = False,
        observer: Observer | None = None,
    ) -> None:
        routing.check(models)
        self.settings = settings
        self.models = models
        self.fleet = fleet
        self.books = books
        self.observer = observer or Observer(models, WatchSettings())
        self.bodies = Bodies(settings.body_limit)
        self.closing = Closing()
        self.draining = False
        self._sealed = sealed
        self._limits = Limits()
        self._admissions: dict[str, Admission] = {}
        self._breakers: dict[str, Breaker] = {}
        self.at_work = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Count one request as at work."""
        self.at_work += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.at_work -= 1
            if not self.at_work:
                self._idle.set()

    def refuse_when_unable(self) -> None:
        """Raises `ClosingError` once we are draining, and `RequestError` (503) while exchanges can
        no longer be kept: what is accepted is recorded."""
        if self.draining:
            raise ClosingError("the gateway is shutting down", hint="ask another, or ask later")
        if self.books.recorder and self.books.recorder.full:
            raise stalled("the traffic store cannot be written, and no more can be kept in memory")

    async def drain(self, seconds: float) -> None:
        """Take no more work; wait up to `seconds`, or until `closing` is set, for what is at work;
        then break it off."""
        self.draining = True
        idle = asyncio.create_task(self._idle.wait())
        closing = asyncio.create_task(self.closing.wait())
        await asyncio.wait({idle, closing}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        self.closing.set()
        await asyncio.wait({idle, closing})

    def authenticate(self, headers: Mapping[str, str]) -> Caller:
        return access.authenticate(headers, self.books.ring, time.time())

    def check(self, asked: Asked, caller: Caller) -> None:
        """Raises `RequestError` for a model that is not the caller's, and for too many messages."""
        access.allow_model(caller, asked.model, self.models)
        if len(asked.messages) > self.settings.message_limit:
            raise RequestError(
                f"{len(asked.messages)} messages; at most {self.settings.message_limit} are read",
                code="too_many_messages",
                param="messages",
            )

    def rate_headers(self, caller: Caller) -> dict[str, str]:
        return self._limits.headers(caller, time.monotonic())

    def count_request(self, caller: Caller) -> None:
        """Count a request that generates nothing. Raises `RequestError` past the caller's limit."""
        self._limits.take(caller, 0, time.monotonic())

    @contextlib.contextmanager
    def limited(self, visit: Visit) -> Iterator[None]:
        """Count the request and its tokens against its caller's limits: at most before, and as many
        as there were after."""
        asked, caller = visit.asked, visit.caller
        assert asked is not None
        most = sum(self.most(asked, asked.model))
        self._limits.take(caller, most, time.monotonic())
        try:
            yield
        finally:
            self._limits.settle(caller, most, sum(visit.used().values()), time.monotonic())

    def longest_answer(self, model: str) -> int:
        """How long an answer may be where the request does not say, in tokens."""
        release = self.fleet.release(model)
        return release.max_tokens if release else LONGEST_ANSWER

    def most(self, asked: Asked, model: str) -> tuple[int, int]:
        """Tokens of prompt and of answers that `asked` cannot exceed at `model`."""
        answer = int(asked.options.get("max_tokens") or self.longest_answer(model))
        return prompt_bound(asked), asked.n * answer

    async def route(self, asked: Asked, caller: Caller) -> routing.Route:
        """Where the request may go. Raises `RequestError`."""
        personal: Callable[[], bool] = functools.partial(has_personal_data, asked)
        if any(one.url for one in self.models.values()) and prompt_bound(asked) > _SEARCHED_AT_ONCE:
            found = await asyncio.to_thread(has_personal_data, asked)
            personal = functools.partial(bool, found)
        now = asyncio.get_running_loop().time()
        down = {n: "it kept failing" for n, b in self._breakers.items() if not b.permits(now)}
        left = {name: one.limit - one.spent for name, one in self.budgets().items()}
        known = routing.Known(down=down | self.fleet.down(), left=left, sealed=self._sealed)
        return routing.route(asked, caller, self.models, known, personal)

    def budgets(self) -> dict[str, Budget]:
        """Of the models that have one."""
        ledger, now = self.books.ledger, time.time()
        if ledger is None:
            return {}
        limits = {n: m.budget for n, m in self.models.items() if m.budget is not None}
        return {n: Budget(spent=ledger.spent(account(n), now), limit=m) for n, m in limits.items()}

    def admission(self, model: str) -> Admission:
        """The queue before `model`."""
        if model not in self._admissions:
            slots = self.fleet.slots(model) or REMOTE_SLOTS
            self._admissions[model] = Admission(
                slots,
                self.settings.queue,
                self.settings.wait,
                **({} if self.books.ring else {"share": 1.0}),
            )
        return self._admissions[model]

    @contextlib.contextmanager
    def judged(self, model: str) -> Iterator[None]:
        """Let the breaker of `model` know how asking it went; what is the client's fault, or the
        end of its patience, says nothing."""
        clock = asyncio.get_running_loop().time
        began = clock()
        self._breakers[model] = self._breaker(model).asked(began)
        try:
            yield
        except _MODEL_FAILED as error:
            late = isinstance(error, EngineTimeout)
            if late and clock() - began < self._own_time(model) * _FAIR_SHARE:
                raise
            self._breakers[model] = self._breaker(model).failed(clock())
            raise
        self._breakers[model] = self._breaker(model).succeeded()

    def _own_time(self, model: str) -> float:
        """Seconds in which `model` has to say something where neither request nor key ask for
        less."""
        own = limits(Wishes(), ANYONE, self.models[model], self.settings)
        return min(own.timeout, own.ttft or own.timeout)

    def _breaker(self, model: str) -> Breaker:
        return self._breakers.get(model, Breaker())

    def record(self, visit: Visit) -> None:
        """Count it, and keep the exchange; it never waits."""
        if event := finished(visit, self.models):
            self.observer.finished(event)
        recorder = self.books.recorder
        if recorder and (exchange := visit.exchange()):
            recorder.offer(exchange)


def has_personal_data(asked: Asked) -> bool:
    """Whether patterns find any in what a model would be given: the prompt, the arguments of calls,
    and options such as tools and schemas."""
    said = [one.to_dict() for one in asked.messages]
    return any(pii.find(text) for text in texts([asked.prompt or "", *said, asked.options]))
