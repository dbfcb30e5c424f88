"""The watch report: what happened, whether it is still what it was, and what was foreseen.

The store is read once for the time that is reported and once for the time before. It leaves
WORKSPACE/reports/watch.json, watch.html for people, and what has drifted for the gateway's alerts.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.config import Settings
from residency.errors import InputError, MissingError
from residency.progress import track
from residency.store import storage_errors, write_atomic
from residency.traffic.feedback import Feedback
from residency.types import Exchange, to_dict, to_json
from residency.watch import page, told
from residency.watch.alerts import iso
from residency.watch.drift import LEAST_BITS, LEAST_CALLS, Signal, signals
from residency.watch.history import History
from residency.watch.notify import FILE_NAME as ALERTS
from residency.watch.observed import Observed, compared, counted
from residency.watch.predicted import Predicted, compare
from residency.watch.rules import Drift as Told
from residency.watch.trust import Opinions, opinions

FOLDER, JSON_NAME, PAGE_NAME = "reports", "watch.json", "watch.html"
BEFORE_DAYS = 28
"""What happens now is compared with the first so many days of the record."""
_DAY = 86_400.0
Between = Callable[[float, float], Iterator[Exchange]]
_FIRST_STEPS = {
    "category": "look at the new category with residency traffic report; it may need examples",
    "unknown": "residency data review lists what is like nothing that was taught",
    "script": "add examples in the languages that are new, or answer them elsewhere",
    "prompt length": "see what makes the prompts longer or shorter; check [engine] context",
    "answer length": "compare a few answers with those of before: residency data review",
    "escalated": "see in the errors why our model did not answer",
    "rated": "correct what was rated down, then residency data build --from traffic",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """`signals` compare the calls of `calls_before` with those of `calls_now`; `missing` says in
    words what could not be compared, and why."""

    calls_before: int
    calls_now: int
    signals: tuple[Signal, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """`start` and `end` are in seconds since 1970; `figures` are `History.figures`; `priced` says
    whether `saved` means something. `feedback` counts what was said of these calls: up, down,
    corrected, reviewed, and of those that say so, right and wrong."""

    start: float
    end: float
    figures: dict[str, Any]
    priced: bool
    feedback: dict[str, int]
    drift: Drift
    predicted: Predicted
    alerts: tuple[dict[str, Any], ...]


def run(
    workspace: Path,
    settings: Settings,
    calls: Between,
    feedback: Sequence[Feedback],
    taught: Sequence[str],
    *,
    start: float,
    end: float,
) -> Report:
    """The report on the calls from `start` on and before `end`, in seconds since 1970.

    `calls` gives those of any time, `taught` are the questions of the data set. Raises `InputError`
    where nothing was recorded, and `StorageError`.
    """
    said = opinions(feedback)
    remote = {name for name, one in settings.serve.models.items() if one.url}
    history = History(start=start, end=end, settings=settings.watch, remote=remote)
    now = Observed(said, remote)
    for one in track(calls(start, end), "calls read", 0):
        history.add(one)
        now.add(one)
    if not history.total.requests:
        raise InputError(
            "no calls were recorded in this time",
            hint="--since looks further back; residency serve and traffic import record calls",
        )
    rated = sum(now.counts["rated"].values(), Counter[str]())
    return Report(
        start=start,
        end=end,
        figures=history.figures(),
        priced=settings.watch.api_price_in is not None,
        feedback=_feedback(now, rated),
        drift=_drift(workspace, _before(calls, said, remote, start), now, taught),
        predicted=compare(workspace, history, rated["right"], rated.total()),
        alerts=tuple(_alerts(workspace, start, end)),
    )


def write(workspace: Path, report: Report) -> Path:
    """Leave the report in the workspace, and what drifted for the alerts; returns the page. Raises
    `StorageError`."""
    folder = workspace / FOLDER
    write_atomic(folder / JSON_NAME, to_json(report, indent=1) + "\n", mode=0o600)
    write_atomic(folder / PAGE_NAME, page.render(to_dict(report)), mode=0o600)
    drifted = [_told(one) for one in report.drift.signals if one.drifted]
    told.keep(workspace / ".residency", drifted)
    return folder / PAGE_NAME


def remove(workspace: Path) -> list[str]:
    """Remove the last report, whose categories have words of calls in their names. Returns which
    files of the workspace that were. Raises `StorageError`."""
    names = (f"{FOLDER}/{JSON_NAME}", f"{FOLDER}/{PAGE_NAME}")
    there = [name for name in names if (workspace / name).exists()]
    for name in there:
        with storage_errors(workspace / name):
            (workspace / name).unlink(missing_ok=True)
    return there


def _told(one: Signal) -> Told:
    return Told(
        where=one.name,
        value=one.bits,
        bound=max(one.floor, LEAST_BITS),
        words=f"{one.name} has moved ({one.bits:.3f} bits; by chance at most {one.floor:.3f}): "
        f"{one.words}",
        first=_FIRST_STEPS[one.name],
    )


def _drift(workspace: Path, before: Observed, now: Observed, taught: Sequence[str]) -> Drift:
    missing = []
    try:
        pairs = compared(workspace, before, now, taught)
    except MissingError as error:
        pairs = counted(before, now)
        missing.append(f"categories and what is unknown: {error.message}")
    found = tuple(signals(pairs)) if pairs else ()
    if not found:
        missing.append(f"fewer than {LEAST_CALLS} calls before this time, or in it")
    return Drift(
        calls_before=before.calls, calls_now=now.calls, signals=found, missing=tuple(missing)
    )


def _feedback(now: Observed, rated: Counter[str]) -> dict[str, int]:
    return {**now.opinions, "right": rated["right"], "wrong": rated["wrong"]}


def _alerts(workspace: Path, start: float, end: float) -> Iterator[dict[str, Any]]:
    """The changes that the gateway wrote down within this time; a damaged line tells nothing."""
    path = workspace / ".residency" / ALERTS
    with storage_errors(path):
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        try:
            change = json.loads(line)
            if iso(start) <= change["time"] < iso(end):
                yield change
        except (ValueError, KeyError, TypeError):
            continue


def _before(calls: Between, said: Opinions, remote: set[str], start: float) -> Observed:
    before = Observed(said, remote)
    first = next((one.time for one in calls(0.0, start)), math.inf)
    for one in track(calls(first, min(first + BEFORE_DAYS * _DAY, start)), "calls before", 0):
        before.add(one)
    return before
