"""Views of what is served: live in the terminal, and written as a page."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from residency import config
from residency.cli import Result
from residency.config import Settings
from residency.conversations import read_conversations
from residency.errors import InputError
from residency.store import Store
from residency.types import to_dict

if TYPE_CHECKING:
    from residency.traffic.store import TrafficStore
    from residency.watch.recorded import Recorded

_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}


def report(workspace: Path, since: str) -> Result:
    """Report on the calls since then, as a page too."""
    from residency.traffic.store import opened
    from residency.watch import page, report

    settings, now = config.load(workspace), time.time()
    with opened(workspace, settings.traffic) as calls:
        made = report.run(
            workspace,
            settings,
            calls.between,
            calls.feedback(),
            _taught(Store(workspace)),
            start=start_of(since, now),
            end=now,
        )
    where = report.write(workspace, made)
    values = to_dict(made)
    lines = [*page.headline(values), f"page: {where}"]
    return Result(data={**values, "page": str(where)}, text="\n".join(lines))


def start_of(since: str, now: float) -> float:
    """The beginning of a time: a day (UTC) as 2027-01-31, or so long ago as 90m, 24h, 7d, 4w.

    Raises `InputError`.
    """
    if ago := re.fullmatch(r"0*([1-9]\d{0,5})([mhdw])", since):
        return max(0.0, now - int(ago[1]) * _SECONDS[ago[2]])
    with contextlib.suppress(ValueError):
        start = datetime.strptime(since, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
        if start < now:
            return start
    raise InputError(
        f"--since: {since!r} is no time that is over", hint="as in --since 7d, or 2027-01-31"
    )


def _taught(store: Store) -> list[str]:
    """The questions of the last data set; none where there is no data set yet."""
    last = store.last("data")
    if not last:
        return []
    folder = store.output(last, "dataset").path
    return [row.question for row in read_conversations(folder / "train.jsonl")]


def top(workspace: Path, once: bool, seconds: float, url: str) -> Result:
    """Show what the gateway does, or the record where none runs, until Ctrl-C; or once."""
    from residency.watch import top as view

    settings = config.load(workspace)
    where = url or f"http://{settings.serve.host}:{settings.serve.port}"
    with contextlib.closing(_Looking(workspace, settings, where, must=bool(url))) as looking:
        snapshot = looking.look()
        if not once:
            with contextlib.suppress(KeyboardInterrupt):
                _show(looking, snapshot, seconds)
            return Result(data=snapshot, text="")
    return Result(data=snapshot, text="\n".join(view.frame(snapshot, view.NARROWEST)))


class _Looking:
    """Where snapshots come from: the gateway at `url`, or the record where nothing answers there,
    unless it `must`."""

    def __init__(self, workspace: Path, settings: Settings, url: str, *, must: bool) -> None:
        self._workspace, self._settings, self._url, self._must = workspace, settings, url, must
        self._store: TrafficStore | None = None
        self._recorded: Recorded | None = None

    def look(self) -> dict[str, Any]:
        from residency.serve.ask import snapshot

        try:
            return snapshot(self._url)
        except InputError:  # nothing answers there
            if self._must:
                raise
            return self._record().snapshot()

    def _record(self) -> Recorded:
        from residency.traffic.store import TrafficStore, place
        from residency.watch.recorded import Recorded

        if self._recorded is None:
            settings = self._settings
            self._store = TrafficStore(place(Store(self._workspace).root, settings.traffic))
            remote = {name for name, one in settings.serve.models.items() if one.url}
            self._recorded = Recorded(self._store.between, settings.watch, remote)
        return self._recorded

    def close(self) -> None:
        if self._store:
            self._store.close()


def _show(looking: _Looking, snapshot: dict[str, Any], seconds: float) -> None:
    from residency.watch import top as view

    before = None
    while True:
        columns = shutil.get_terminal_size((view.NARROWEST, 24)).columns
        click.echo(view.bold(view.frame(snapshot, columns, before)), nl=False)
        before = snapshot
        time.sleep(seconds)
        snapshot = looking.look()
