"""What a request may cost at most, set aside before it goes out, and what it did cost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from residency.config import ServedModel
from residency.engines.remote import FRAME, most_tokens, price
from residency.errors import EgressRefused, EngineLost, EngineRejected, EngineUnavailable
from residency.serve.answer import dumps
from residency.serve.asked import Asked, Caller
from residency.serve.ledger import Ledger, Reservation
from residency.serve.routing import Target
from residency.serve.visit import Visit
from residency.types import to_dict


def prompt_bound(asked: Asked) -> int:
    """Tokens that the prompt cannot exceed: a token stands for one byte at least."""
    if asked.prompt is not None:
        return len(asked.prompt.encode()) + FRAME
    rest = [to_dict(one.extra) for one in asked.messages if one.extra]
    rest += [asked.options[name] for name in ("tools", "response_format") if name in asked.options]
    return most_tokens(asked.messages) + sum(len(dumps(one)) for one in rest)


def account(model: str) -> str:
    """The ledger's name for the budget of a served model."""
    return f"model:{model}"


@contextmanager
def spending(
    ledger: Ledger | None, target: Target, caller: Caller, visit: Visit, most: tuple[int, int]
) -> Iterator[None]:
    """Set aside what asking `target` may cost at `most` (tokens of prompt and of answers); at the
    end settle it by the answer's usage, or leave it all where none is known for sure. What refuses
    or cannot be reached has cost nothing; what went away with the request may send a bill.

    Raises `RequestError` (429 `insufficient_quota`) past a budget, and then nothing is spent.
    """
    worst = price(target.model, *most)
    limits = {account(target.name): target.model.budget, f"key:{caller.name}": caller.budget}
    held: list[Reservation] = []
    actual = 0.0
    try:
        for name, limit in limits.items():
            if worst and ledger and limit is not None:
                held.append(ledger.reserve(name, worst, limit, time.time()))
        actual = worst  # unless the engine says better
        yield
        if not visit.notes.usage:
            actual = _cost(target.model, visit.answer.usage, worst)
    except (EngineRejected, EngineUnavailable, EgressRefused) as error:
        if not visit.answer.choices and not isinstance(error, EngineLost):
            actual = 0.0
        raise
    finally:
        visit.cost += actual
        for one in held:
            if ledger:
                ledger.settle(one, actual)


def _cost(model: ServedModel, usage: Mapping[str, Any], worst: float) -> float:
    if "prompt_tokens" not in usage:
        return worst
    return price(model, usage["prompt_tokens"], usage.get("completion_tokens", 0))
