"""A request that is over, as the watch is told of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from time import monotonic

from residency.config import ServedModel
from residency.serve.visit import Visit
from residency.watch.finished import Finished, Route, made_to_fit


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
        context=made_to_fit(notes.context),
        finish=notes.finish,
    )


def _route(target: str, models: Mapping[str, ServedModel]) -> Route:
    if not target:
        return "none"
    return "remote" if models[target].url else "local"
