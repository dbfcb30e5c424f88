"""The traffic report: the store is read twice, once for what is asked, once for the figures.

It leaves WORKSPACE/reports/traffic.json, which `decide` reads, and traffic.html for people.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from residency.errors import InputError, StorageError
from residency.progress import track
from residency.store import storage_errors, write_atomic
from residency.traffic import page, vectors
from residency.traffic.coverage import Comparison, Coverage, compare, coverage
from residency.traffic.discovery import MOST, Discovery, Sample, discover
from residency.traffic.logs.values import mapping
from residency.traffic.profile import Tally, application, asked, script, tags
from residency.types import Exchange, TrafficReport, to_dict, to_json

FOLDER, JSON_NAME, PAGE_NAME = "reports", "traffic.json", "traffic.html"
FEWEST = 20
"""Calls below which categories would be chance."""
WORKLOAD = "workload_id"
EMBEDDINGS, NO_TEXT = "(embeddings)", "(no text kept)"
# A tag with more values, or with fewer calls a value, tells no kinds of work apart.
_VALUES, _CALLS_EACH = 200, 5
_TAGS = 100
_MOST_CALLS = 0.5
Calls = Callable[[], Iterator[Exchange]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """`by` is the tag that its categories are, empty where they were discovered; `comparisons`
    hold each tag of most calls against what was discovered. `scripts` counts calls by the script
    they are written in, `by_words` those that only their words put into a category."""

    report: TrafficReport
    by: str
    calls: Coverage | None
    money: Coverage | None
    comparisons: tuple[Comparison, ...]
    scripts: Mapping[str, int]
    encoded: int
    by_words: int
    criterion: str
    tried: Mapping[str, float]


def run(workspace: Path, calls: Calls, *, tag: str = "", most: int = MOST) -> Report:
    """The report on `calls`, by the tag `tag`, or by `workload_id` where most calls have one, or by
    what is discovered in at most `most` distinct texts.

    Raises `InputError` where there is too little to report on, or no such tag.
    """
    first = _First(Sample(most))
    for one in track(calls(), "calls read", 0):
        first.add(one)
    usable = first.tags()
    by = _by(first, usable, tag)
    found = discover(workspace, first.sample) if first.sample.calls >= FEWEST else None
    if not (found or by):
        raise _too_little(first)
    second = _Second(found, usable, by)
    for one in track(calls(), "calls counted", first.calls):
        second.add(one)
    return second.report()


def write(workspace: Path, report: Report) -> Path:
    """Leave the report in the workspace; returns the page. Raises `StorageError`."""
    folder = workspace / FOLDER
    write_atomic(folder / JSON_NAME, to_json(report, indent=1) + "\n", mode=0o600)
    write_atomic(folder / PAGE_NAME, page.render(to_dict(report)), mode=0o600)
    return folder / PAGE_NAME


def remove(workspace: Path) -> list[str]:
    """Remove what the last report left of calls: quotes and vectors. Returns which files of the
    workspace that were. Raises `StorageError`."""
    names = (f"{FOLDER}/{JSON_NAME}", f"{FOLDER}/{PAGE_NAME}", vectors.PLACE)
    there = [name for name in names if (workspace / name).exists()]
    for name in there:
        with storage_errors(workspace / name):
            (workspace / name).unlink(missing_ok=True)
    return there


def load(workspace: Path) -> TrafficReport:
    """What the last report left. Raises `InputError` where there is none, and `StorageError`."""
    path = workspace / FOLDER / JSON_NAME
    if not path.exists():
        raise InputError(
            f"{path}: there is no traffic report", hint="make one with: residency traffic report"
        )
    try:
        with storage_errors(path):
            value = json.loads(path.read_text(encoding="utf-8"))["report"]
        return TypeAdapter(TrafficReport).validate_python(value)
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{path}: damaged, or of another version ({error})",
            hint="make it anew with: residency traffic report",
        ) from error


class _First:
    """The first reading: what is asked, and which tags there are."""

    def __init__(self, sample: Sample) -> None:
        self.calls = 0
        self.sample = sample
        self.values: dict[str, Counter[str]] = {}

    def add(self, exchange: Exchange) -> None:
        self.calls += 1
        if not _outside(exchange, text := asked(exchange)):
            self.sample.add(application(exchange), text)
        for name, value in dict(tags(exchange)).items():
            if name in self.values or len(self.values) < _TAGS:
                counts = self.values.setdefault(name, Counter())
                if value in counts or len(counts) <= _VALUES:
                    counts[value] += 1

    def tags(self) -> list[str]:
        """Tags that most calls have, with few enough values to be kinds of work."""
        return [
            name
            for name, counts in sorted(self.values.items())
            if 2 <= len(counts) <= min(_VALUES, counts.total() / _CALLS_EACH)
            and counts.total() >= _MOST_CALLS * self.calls
        ]


def _outside(exchange: Exchange, text: str) -> str:
    """The name of what is in no category, empty where it is in one."""
    if exchange.api == "embeddings":
        return EMBEDDINGS
    return "" if text else NO_TEXT


def _by(first: _First, usable: list[str], tag: str) -> str:
    if not tag:
        return WORKLOAD if WORKLOAD in usable else ""
    if tag not in first.values:
        known = ", ".join(sorted(first.values)) or "none"
        raise InputError(f"--tag {tag}: no call has it", hint=f"tags of these calls: {known}")
    if len(first.values[tag]) > _VALUES:
        raise InputError(
            f"--tag {tag}: more than {_VALUES} values, too many to be kinds of work",
            hint=f"tags of most calls with fewer: {', '.join(usable) or 'none'}",
        )
    return tag


def _too_little(first: _First) -> InputError:
    if not first.calls:
        return InputError(
            "there are no calls to report on",
            hint="bring a log in with: residency traffic import FILE; --since may be too late",
        )
    if first.calls >= FEWEST:
        return InputError(
            f"the texts of {first.calls:,} calls were not kept, and categories come from them",
            hint="import with [traffic] personal = 'mask', or report by a tag: --tag NAME",
        )
    return InputError(
        f"{first.calls} calls: too few to find categories in, which takes {FEWEST}",
        hint="import more, or report by a tag of theirs: --tag NAME",
    )


class _Second:
    """The second reading: the figures."""

    def __init__(self, found: Discovery | None, usable: list[str], by: str) -> None:
        self._found, self._usable, self._by = found, usable, by
        self._total = Tally("")
        self._tallies: dict[str, Tally] = {}
        self._pairs: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in usable}
        self._models: Counter[str] = Counter()
        self._personal: Counter[str] = Counter()
        self._scripts: Counter[str] = Counter()
        self._by_words = 0
        self._span = (math.inf, -math.inf)

    def add(self, exchange: Exchange) -> None:
        text = asked(exchange)
        own = dict(tags(exchange))
        category = self._discovered(exchange, text)
        for name in self._usable:
            if name in own and category:
                self._pairs[name][category, own[name]] += 1
        shown = own.get(self._by or next(iter(self._usable), ""), "")
        name = (shown or f"(no {self._by})") if self._by else category
        self._tallies.setdefault(name, Tally(name)).add(exchange, text, shown)
        self._total.add(exchange, "", shown)
        self._models[exchange.model] += 1
        self._personal.update(mapping(exchange.tags.get("personal")).keys())
        if text:
            self._scripts[script(text) or "no letters"] += 1
        self._span = min(self._span[0], exchange.time), max(self._span[1], exchange.time)

    def _discovered(self, exchange: Exchange, text: str) -> str:
        if outside := _outside(exchange, text):
            return outside
        if not self._found:
            return ""
        prompt = application(exchange)
        self._by_words += not self._found.knows(prompt, text)
        return self._found.category(prompt, text)

    def report(self) -> Report:
        examples = {} if self._by or not self._found else self._found.examples
        categories = [
            tally.category(name, examples.get(name, ())) for name, tally in self._tallies.items()
        ]
        total = self._total.category("all")
        covering = [one for one in categories if one.name not in (EMBEDDINGS, NO_TEXT)]
        traffic = TrafficReport(
            first=self._span[0],
            last=self._span[1],
            total=total,
            categories=tuple(sorted(categories, key=lambda one: (-one.calls, one.name))),
            models=dict(self._models.most_common()),
            personal=dict(self._personal.most_common()),
        )
        pairs = {name: pairs for name, pairs in self._pairs.items() if self._found and pairs}
        return Report(
            report=traffic,
            by=self._by,
            calls=coverage((one.calls for one in covering), total.calls),
            money=coverage((one.cost for one in covering), total.cost),
            comparisons=tuple(compare(name, one, total.calls) for name, one in pairs.items()),
            scripts=dict(self._scripts.most_common()),
            encoded=self._found.encoded if self._found else 0,
            by_words=self._by_words,
            criterion=self._found.criterion if self._found else "",
            tried={str(k): v for k, v in self._found.tried.items()} if self._found else {},
        )
