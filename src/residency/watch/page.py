"""The watch report's page: one HTML file that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from residency.pages import count, money, percent, template
from residency.watch import plot

_FEW = 12
"""Rows of a table of models, errors or shares."""


def render(report: Mapping[str, Any]) -> str:
    """The page, from what watch.json holds (`residency.watch.report.Report`)."""
    page = template(
        "residency.watch", "report.html.j2", seconds=seconds, moment=moment, range=range_in_words
    )
    return page.render(
        r=report, f=report["figures"], charts=_charts(report["figures"]), plot=plot, few=_FEW,
        moved=_moved, headline=headline(report),
    )  # fmt: skip


def headline(report: Mapping[str, Any]) -> list[str]:
    """The answer in a few sentences."""
    total, drifted = report["figures"]["total"], _drifted(report)
    answered = total["answered"] / total["requests"]
    said = [f"{count(total['requests'])} requests, {percent(answered)} of them answered."]
    if total["latency"]["p95"] is not None:
        said.append(f"95 of 100 answers took up to {seconds(total['latency']['p95'])}.")
    if total["share_local"] is not None:
        said.append(f"{percent(total['share_local'])} of the answers came from models of yours.")
    if report["priced"] and total["saved"]:
        said.append(f"At the API these would have cost {money(total['saved'])}.")
    if drifted:
        said.append(f"What has moved by more than chance: {', '.join(drifted)}.")
    elif report["drift"]["signals"]:
        said.append("Nothing has moved by more than chance.")
    worse = [row["what"] for row in report["predicted"]["rows"] if row["outcome"] == "worse"]
    return [*said, *(f"Worse than foreseen: {what}." for what in worse)]


def _drifted(report: Mapping[str, Any]) -> list[str]:
    return [one["name"] for one in report["drift"]["signals"] if one["drifted"]]


def _charts(figures: Mapping[str, Any]) -> dict[str, plot.Chart]:
    steps = figures["steps"]
    starts = [one["start"] for one in steps]

    def row(name: str, share: str) -> list[float | None]:
        return [one[name][share] for one in steps]

    return {
        "requests": plot.bars(
            [[one["requests"] for one in steps], [one["failed"] for one in steps]], starts, count
        ),
        "latency": plot.lines(
            {share: row("latency", share) for share in ("p50", "p95", "p99")}, starts, seconds
        ),
        "ttft": plot.lines(
            {share: row("ttft", share) for share in ("p50", "p95", "p99")}, starts, seconds
        ),
        "speed": plot.lines({"all": [one["tokens_per_second"] for one in steps]}, starts, _rate),
        "local": plot.lines(
            {"here": [one["share_local"] for one in steps]}, starts, "{:.0%}".format, top=1.0
        ),
    }


def _moved(signal: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Values with their shares before and now, what moved most first."""
    names = signal["before"].keys() | signal["now"].keys()
    rows = [(name, signal["before"].get(name, 0.0), signal["now"].get(name, 0.0)) for name in names]
    return sorted(rows, key=lambda one: (-abs(one[2] - one[1]), one[0]))[:_FEW]


def seconds(value: float | None) -> str:
    if value is None:
        return "unknown"
    return (
        f"{1000 * value:.0f} ms"
        if value < 1
        else f"{value:.1f} s"
        if value < 100
        else f"{value:,.0f} s"
    )


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def moment(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M")


def range_in_words(ends: tuple[float, float] | None, unit: str) -> str:
    """Both ends of a range, in its unit."""
    if ends is None:
        return "unknown"
    write = {"calls": count, "money": money, "seconds": seconds, "share": percent}[unit]
    low, high = write(ends[0]), write(ends[1])
    return low if low == high else f"{low} to {high}"
