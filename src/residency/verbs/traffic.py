"""The record of what was asked and answered."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from residency import audit, config
from residency.cli import Result
from residency.config import Settings
from residency.conversations import FROM_TRAFFIC
from residency.data import added
from residency.errors import InputError
from residency.pages import money, percent
from residency.traffic import page, report
from residency.traffic.intake import SHOWN, Intake
from residency.traffic.mask import pseudonym
from residency.traffic.report import Report
from residency.traffic.store import opened
from residency.types import to_dict
from residency.watch import report as watch_report
from residency.watch import review


def erase(workspace: Path, subject: str) -> Result:
    """Remove every exchange about a person, for good, with what was said of it and what was made of
    it for training, and the last reports, which may quote one.

    The audit log has their pseudonym only."""
    with opened(workspace, config.load(workspace).traffic) as store:
        about = set(store.about(subject))
        count = store.erase(subject)
    rows = _forget(workspace, about)
    details = {"subject": pseudonym(subject, store.salt), "exchanges": count}
    audit.append(workspace, "traffic erased", audit.operator(), details)
    noun = "exchange" if count == 1 else "exchanges"
    text = f"{count} {noun} erased"
    if rows:
        text += (
            f"\n{rows} rows of {FROM_TRAFFIC} and {review.FILE_NAME} removed; data sets and models "
            "that were made of them hold them still: residency run, then residency gc"
        )
    if removed := [*report.remove(workspace), *watch_report.remove(workspace)]:
        text += f"\nremoved, as it may quote one: {', '.join(removed)}"
        text += "\nmake reports anew with: residency traffic report, residency watch report"
    return Result(data={"erased": count, "rows": rows, "removed": removed}, text=text)


def _forget(workspace: Path, exchanges: Collection[str]) -> int:
    """Remove from the files of the loop what is from `exchanges`; returns how many rows."""
    path = workspace / FROM_TRAFFIC
    rows = added.read(path)
    left = [one for one in rows if one.exchange not in exchanges]
    if len(left) < len(rows):
        added.write(path, left)
    return len(rows) - len(left) + review.forget(workspace / review.FILE_NAME, exchanges)


def import_files(workspace: Path, files: Sequence[Path], mapping: Sequence[str]) -> Result:
    """Bring logged calls into the record; what was stored is audited, however it ends."""
    settings = config.load(workspace)
    columns = _columns(mapping)
    if missing := [file for file in files if not file.is_file()]:
        raise InputError(f"{missing[0]}: there is no such file")
    with opened(workspace, settings.traffic) as store:
        intake = Intake(store, settings.traffic)
        try:
            intake.run(files, columns)
        finally:
            details = {"files": [file.name for file in files], **_figures(intake)}
            details["personal"] = settings.traffic.personal
            audit.append(workspace, "traffic imported", audit.operator(), details)
    halves = dict(zip(("requests", "results"), intake.halves.left, strict=True))
    return Result(
        data={**_figures(intake), "bad_lines": intake.shown, "halves": halves},
        text="\n".join(_told(intake, settings)),
        exit_code=InputError.exit_code if intake.stopped else 0,
    )


def report_on(workspace: Path, tag: str, since: str) -> Result:
    """What the recorded calls ask, in categories."""
    start = _day(since) if since else 0.0
    with opened(workspace, config.load(workspace).traffic) as store:
        made = report.run(workspace, lambda: store.between(start, math.inf), tag=tag)
    place = report.write(workspace, made)
    return Result(
        data={**to_dict(made), "page": str(place)},
        text="\n".join([*_table(made), *_below(made), f"page: {place}"]),
    )


def _day(text: str) -> float:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise InputError(f"--since: {text!r} is no day", hint="as in --since 2027-01-31") from None


def _table(made: Report) -> Iterator[str]:
    total = made.report.total
    heads = ("calls", "share", "money", "tokens in/out", "p50", "p95", "errors", "alike")
    yield f"{made.by or 'category':32}" + "".join(f"{head:>14}" for head in heads)
    for one in (*made.report.categories, total):
        tokens = one.prompt_tokens / one.calls, one.completion_tokens / one.calls
        cells = (
            f"{one.calls:,}",
            percent(one.calls / total.calls),
            money(one.cost),
            f"{tokens[0]:,.0f}/{tokens[1]:,.0f}",
            page.seconds(one.p50),
            page.seconds(one.p95),
            percent(one.errors / one.calls),
            "unknown" if one.alike is None else f"{one.alike:.2f}",
        )
        yield f"{one.name[:31]:32}" + "".join(f"{cell:>14}" for cell in cells)


def _below(made: Report) -> Iterator[str]:
    for covered, words in ((made.calls, "calls"), (made.money, "money")):
        if covered:
            counts = (f"{share} by {k or 'not even all'}" for share, k in covered.needed.items())
            yield f"categories that cover {words}: {', '.join(counts)}"
    for one in made.comparisons:
        yield (
            f"tag {one.tag}: {percent(one.share)} of the calls, {one.values} values; with "
            f"what was discovered NMI {one.nmi:.2f}, purity {one.purity:.2f}"
        )
    found = ", ".join(f"{kind} in {n:,} calls" for kind, n in made.report.personal.items())
    yield f"personal data: {found or 'no pattern found any'}; patterns do not find names"


def _columns(mapping: Sequence[str]) -> dict[str, str]:
    if wrong := [one for one in mapping if not all(one.partition("="))]:
        raise InputError(f"--map {wrong[0]}: not field=column", hint="as in --map prompt=question")
    return {field: column for field, _, column in (one.partition("=") for one in mapping)}


def _figures(intake: Intake) -> dict[str, Any]:
    known = intake.read - intake.added
    return {"added": intake.added, "known": known, "rejected": intake.rejected}


def _told(intake: Intake, settings: Settings) -> Iterator[str]:
    yield from intake.shown
    if intake.rejected > SHOWN:
        yield f"and {intake.rejected - SHOWN:,} more"
    known, rejected = intake.read - intake.added, intake.rejected
    yield (
        f"{intake.added:,} exchanges added; {known:,} were there already; {rejected:,} bad lines"
    )
    requests, results = intake.halves.left
    if requests or results:
        yield (
            f"left out: {requests:,} requests of a batch without a result, {results:,} results "
            "without their request; import its input, output and error files in one go"
        )
    if intake.stopped:
        yield f"stopped: more than traffic.rejects = {settings.traffic.rejects} bad lines"
