"""Which models a request may be given to, in order: the one asked for, then its fallbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from residency.config import ServedModel
from residency.errors import SettingsError
from residency.sealed import is_local
from residency.serve.asked import Asked, Caller
from residency.serve.errors import RequestError


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A model to ask, by its name here. `local` says that what it is asked stays on this machine:
    it runs on an engine of ours, or its URL's host is a loopback address."""

    name: str
    model: ServedModel

    @property
    def local(self) -> bool:
        return not self.model.url or is_local(urlsplit(self.model.url).hostname or "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What is known when a request comes.

    `down` says of models that cannot be asked now why not (an engine that starts, an open breaker);
    `left` is what remains of models' budgets, in money; models without a budget are not in it.
    """

    down: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, float] = field(default_factory=dict)
    sealed: bool = False


class Route(NamedTuple):
    """The `targets` to try, in this order. `confined` says that no connection may leave the machine
    for this request: `residency.egress.CONFINED` is to be set."""

    targets: tuple[Target, ...]
    confined: bool


Order = Callable[[Asked, tuple[Target, ...]], Sequence[Target]]
"""The seam for routing by category of the request or by calibrated confidence: it sees the request
and all targets that may and can be asked, and gives those to try, in its own order."""


def as_listed(_: Asked, targets: tuple[Target, ...]) -> Sequence[Target]:
    return targets


def check(models: Mapping[str, ServedModel]) -> None:
    """Raises `SettingsError` for a fallback that is not served."""
    for name, model in models.items():
        for fallback in model.fallback:
            if fallback not in models:
                raise SettingsError(
                    f"serve.models.{name}: its fallback {fallback} is not served",
                    hint=f"served are: {', '.join(models)}",
                )


def route(
    asked: Asked,
    caller: Caller,
    models: Mapping[str, ServedModel],
    known: Known,
    personal: Callable[[], bool],
    order: Order = as_listed,
) -> Route:
    """Where `asked` may go. `personal` looks for personal data in it, and is called only where that
    decides. A fallback is the owner's choice: the models of a caller's key do not bound it.

    Raises `RequestError`: 404 `model_not_found`, 403 `may_not_leave`, 503 `all_routes_down`, or 429
    `insufficient_quota` when budgets alone stand in the way.
    """
    targets = _listed(asked.model, models)
    confined, why = False, ""
    if not all(target.local for target in targets):
        why = _why_confined(caller, known, personal)
        confined = bool(why)
    may = tuple(target for target in targets if target.local or not confined)
    if not may:
        raise RequestError(
            f"{asked.model} is beyond this machine, and {why}", status=403, code="may_not_leave"
        )
    can = tuple(t for t in may if t.name not in known.down and known.left.get(t.name, 1.0) > 0)
    if not can:
        raise _none_can(asked.model, may, known)
    return Route(tuple(order(asked, can)), confined or caller.never_leave)


def _listed(name: str, models: Mapping[str, ServedModel]) -> tuple[Target, ...]:
    """The model and its fallbacks, then the fallbacks of those, each once."""
    if name not in models:
        raise RequestError(
            f"no model is called {name!r}", status=404, code="model_not_found", param="model"
        )
    names = [name]
    for one in names:  # grows meanwhile
        names += [f for f in dict.fromkeys(models[one].fallback) if f not in names]
    return tuple(Target(name=one, model=models[one]) for one in names)


def _why_confined(caller: Caller, known: Known, personal: Callable[[], bool]) -> str:
    if known.sealed:
        return "this endpoint is sealed"
    if caller.never_leave:
        return f"what the key {caller.name} sends may not leave it"
    return "personal data was found in the request" if personal() else ""


def _none_can(name: str, may: tuple[Target, ...], known: Known) -> RequestError:
    down = [f"{t.name}: {known.down[t.name]}" for t in may if t.name in known.down]
    if down:
        words = f"no model can answer for {name} now ({'; '.join(down)})"
        return RequestError(words, status=503, code="all_routes_down")
    return RequestError(
        f"the budget of {name} for this month is used up",
        status=429,
        code="insufficient_quota",
        headers={"x-should-retry": "false"},
    )
