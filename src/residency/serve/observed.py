"""A request that is over, as the watch is told of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from time import monotonic

from residency.config import ServedModel
from residency.serve.notes import Notes
from residency.serve.visit import Visit
from residency.watch.finished import Finished, Route


def finished(visit: Visit, models: Mapping[str, ServedModel]) -> Finished | None:
    """A visit at its end; None for one that was answered without a model, such as a count."""
    asked, notes = visit.asked, visit.notes
    if asked is None and visit.status < 400:
        return None
    target = notes.routes[-1] if notes.routes else ""
    used = visit.used()
    return Finished(
        id=visit.id,
        time=time.time(),
        api=visit.api,
        model=asked.model if asked else "",
        status=visit.status,
        latency=monotonic() - visit.began,
        ttft=visit.ttft,
        queued=notes.queued,
        prompt_tokens=used["prompt_tokens"],
        completion_tokens=used["completion_tokens"],
        cost=visit.cost,
        route=_route(target, models),
        target=target,
        build=visit.build,
        error=visit.error,
        guards=tuple(notes.guards),
        context=_context(notes),
        finish=notes.finish,
    )


def _route(target: str, models: Mapping[str, ServedModel]) -> Route:
    if not target:
        return "none"
    return "remote" if models[target].url else "local"


def _context(notes: Notes) -> str:
    """The one thing that was done to a conversation that was too long."""
    receipt = notes.context or {}
    if receipt.get("summarised_messages"):
        return "summarised"
    return "pruned" if receipt.get("dropped_messages") else ""
