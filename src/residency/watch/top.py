"""The live view for a terminal: a frame is lines of text, made of a snapshot alone."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from textwrap import wrap
from typing import Any

from residency.pages import count, percent
from residency.watch.page import seconds

NARROWEST = 80
"""Columns that every frame fits."""
CLEAR = "\033[H\033[J"
_HEADS = ("requests", "a second", "failed", "p50", "p95", "p99", "first", "tok/s", "here")
_WIDTHS = (9, 9, 7, 8, 8, 8, 8, 7, 7)
_NAME = 8
_RECENT = "5m"
_BOLD, _PLAIN = "\033[1m", "\033[0m"
_MB, _GB = 1e6, 1e9
Snapshot = Mapping[str, Any]


def frame(now: Snapshot, columns: int, before: Snapshot | None = None) -> list[str]:
    """The lines of one frame, none longer than `columns`.

    `now` is what `Observer.snapshot` tells, or the same from the record, without engines; `before`
    is an earlier one, by which the use of processors is told.
    """
    width = max(NARROWEST, columns)
    return [_cut(line, width) for line in _lines(now, before)]


def bold(lines: Sequence[str]) -> str:
    """The frame with its heads in bold, as a terminal is sent it: over the one before."""
    shown = (f"{_BOLD}{one}{_PLAIN}" if one and not one.startswith(" ") else one for one in lines)
    return CLEAR + "\n".join(shown) + "\n"


def _lines(now: Snapshot, before: Snapshot | None) -> Iterator[str]:
    yield f"{now['now'].replace('T', ' ')}  {_source(now)}"
    yield ""
    yield _row("", _HEADS)
    for name, figures in now["windows"].items():
        yield _row(f"  {name}", _cells(figures))
    recent = {name: one[_RECENT] for name, one in now["models"].items() if _RECENT in one}
    if recent:
        yield ""
        yield "models, last five minutes"
        for name, figures in sorted(recent.items(), key=lambda pair: -pair[1]["requests"]):
            yield from _named(name, _cells(figures))
    if now["engines"]:
        yield ""
        yield "engines"
        yield from (f"  {_engine(one, now, before)}" for one in now["engines"])
    if gateway := now["gateway"]:
        yield ""
        yield (
            f"gateway  {_mb(gateway['memory'])}, {gateway['at_work']} at work, "
            f"{gateway['waiting']} to be written, {gateway['disk_free'] / _GB:,.1f} GB of disk free"
        )
    errors = now["windows"][_RECENT]["errors"]
    if errors:
        counts = ", ".join(f"{code} {n}" for code, n in sorted(errors.items()))
        yield from wrap(f"errors, last five minutes: {counts}", NARROWEST, subsequent_indent="  ")
    yield ""
    yield from _alerts(now["alerts"])


def _source(now: Snapshot) -> str:
    since = now["since"].replace("T", " ")
    return (
        "no gateway runs: the record" if now.get("recorded") else f"gateway, watched since {since}"
    )


def _cells(figures: Snapshot) -> tuple[str, ...]:
    latency, local = figures["latency"], figures["share_local"]
    rate = figures["error_rate"]
    return (
        count(figures["requests"]),
        f"{figures['requests_per_second']:.2f}",
        "" if rate is None else percent(rate),
        *(_short(latency[share]) for share in ("p50", "p95", "p99")),
        _short(figures["ttft"]["p95"]),
        _rate(figures["tokens_per_second"]),
        "" if local is None else f"{local:.0%}",
    )


def _rate(value: float) -> str:
    if value >= 100_000:
        return f"{value / 1000:.0f}k"
    return f"{value:.1f}" if value < 1000 else count(value)


def _short(value: float | None) -> str:
    return "" if value is None else seconds(value)


def _named(name: str, cells: Sequence[str]) -> Iterator[str]:
    """The row of a name of any length: a long one has a line of its own above the figures."""
    if _columns(name) + 2 < _NAME:
        yield _row(f"  {name}", cells)
    else:
        yield from (f"  {name}", _row("", cells))


def _row(name: str, cells: Sequence[str]) -> str:
    """A name of less than `_NAME` columns, and the figures."""
    figures = "".join(one.rjust(width) for one, width in zip(cells, _WIDTHS, strict=True))
    return f"{name}{' ' * (_NAME - _columns(name))}{figures}"


def _engine(one: Mapping[str, Any], now: Snapshot, before: Snapshot | None) -> str:
    if one["down"]:
        return f"{one['model']}  down: {one['down']}"
    slots = "" if one["slots"] is None else f", {one['busy']}/{one['slots']} slots"
    cache = "" if one["cache"] is None else f", cache {one['cache']:.0%}"
    again = f", {one['restarts']} restarts" if one["restarts"] else ""
    use = _processor(one, now, before)
    return f"{one['model']}  {one['build']}  {_mb(one['memory'])}{use}{slots}{cache}{again}"


def _processor(one: Mapping[str, Any], now: Snapshot, before: Snapshot | None) -> str:
    """How many cores it kept busy since the frame before."""
    old = [e for e in before["engines"] if e["pid"] == one["pid"]] if before else []
    spent = _time(now) - _time(before) if before else 0.0
    return f", {(one['cpu'] - old[0]['cpu']) / spent:.1f} cores" if old and spent > 0 else ""


def _time(snapshot: Snapshot) -> float:
    gateway = snapshot["gateway"]
    if gateway:
        return float(gateway["time"])
    return datetime.fromisoformat(snapshot["now"]).timestamp()


def _mb(size: float) -> str:
    return f"{size / _MB:,.0f} MB"


def _alerts(alerts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not alerts:
        yield "no alerts"
        return
    yield "alerts"
    for one in alerts:
        quiet = " (silenced)" if one["silenced"] else ""
        yield f"  {one['severity']} {one['rule']}{quiet} since {one['since']}"
        yield f"    {one['words']}"
        yield f"    first: {one['first']}"


def _columns(text: str) -> int:
    """How many columns of a terminal `text` takes: East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _cut(line: str, width: int) -> str:
    """At most `width` columns of it; control characters, which a name may hold, become marks."""
    shown, left = "", width
    for char in line:
        size = _columns(char)
        if size > left:
            return shown
        shown += char if char.isprintable() else "·"
        left -= size
    return shown
