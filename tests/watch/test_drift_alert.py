"""Drift from end to end: what clients ask changes, and the running gateway says so.

The calls are the shipped clinic desk's own questions. A gateway that is a process of its own looks
at what `residency watch report` leaves in its workspace.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from residency.cli import main
from residency.store import Store
from residency.traffic.profile import script
from residency.traffic.store import FILE_NAME, TrafficStore
from residency.types import Exchange
from residency.verbs.workspace import RECIPES
from tests.serve import processes
from tests.serve.test_watch import get, until
from tests.watch.exchanges import served

DAY = 86_400.0
NEW = "insurance"
"""The intent of which nobody asks at first."""
SETTINGS = 'name = "desk"\n[data]\nfile = "d.jsonl"\n'
QUICK = {"every": 0.1, "after": 0.2, "keep": 0.5}
pytestmark = pytest.mark.slow


def questions() -> dict[str, list[str]]:
    """The usual ones, those of the new intent, and those in Chinese."""
    rows = [json.loads(line) for line in (RECIPES / "clinic-desk.jsonl").read_text().splitlines()]
    found: dict[str, list[str]] = {"usual": [], NEW: [], "Chinese": []}
    for row in rows:
        if script(row["prompt"]) == "Han":
            found["Chinese"].append(row["prompt"])
        elif json.loads(row["completion"])["intent"] == NEW:
            found[NEW].append(row["prompt"])
        else:
            found["usual"].append(row["prompt"])
    return found


def calls(texts: Sequence[str], days: tuple[int, int], a_day: int, name: str) -> list[Exchange]:
    """So many calls a day, from so many days ago on until so many; `name` is whose they are."""
    drawn, now = random.Random(name), time.time()
    return [
        served(0, drawn.choice(texts), id=f"{name}-{day}-{n}", subject=name,
               time=now - day * DAY + DAY * (n + 0.5) / a_day, prompt_tokens=40,
               completion_tokens=20, model="desk")
        for day in range(days[0], days[1], -1)
        for n in range(a_day)
    ]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workspace with a month of calls, and a week more of the same."""
    (tmp_path / "residency.toml").write_text(SETTINGS)
    change(tmp_path, calls(questions()["usual"], (36, 0), 40, "usual"))
    return tmp_path


def change(folder: Path, new: Sequence[Exchange] = (), erased: str = "") -> None:
    store = TrafficStore(Store(folder).root / FILE_NAME)
    store.add(new)
    if erased:
        store.erase(erased)
    store.close()


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    """A gateway on the workspace; nobody asks it anything."""
    api = {"url": "http://127.0.0.1:9/v1", "model": "desk"}
    with processes.serving(folder, folder / "none", watch=QUICK, models={"desk": api}) as process:
        yield processes.url_of(process)


def report(folder: Path) -> set[str]:
    """What has moved, by the report of the last week."""
    words = ["watch", "report", "--json", "--workspace", str(folder), "--since", "7d"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    return {one["name"] for one in json.loads(done.stdout)["drift"]["signals"] if one["drifted"]}


def alerts(url: str) -> dict[str, Any]:
    told = get(url, "/v1/residency/watch")["alerts"]
    return {one["where"]: one for one in told if one["rule"] == "drift"}


def test_steady_traffic_is_silent_and_a_change_of_it_is_an_alert(folder: Path, url: str) -> None:
    asked = questions()
    assert report(folder) == set()
    began = time.time()
    until(lambda: get(url, "/v1/residency/watch")["gateway"]["time"] > began + 1.0)
    assert alerts(url) == {}

    for kind, where in ((NEW, "category"), ("Chinese", "script")):
        change(folder, calls(asked[kind], (7, 0), 20, kind))
        moved = report(folder)
        assert where in moved
        found = until(lambda moved=moved: alerts(url).keys() == moved and alerts(url))
        assert found[where]["value"] > found[where]["bound"]
        assert f"{where} has moved" in found[where]["words"]
        change(folder, erased=kind)
        assert report(folder) == set()
        until(lambda: not alerts(url))
