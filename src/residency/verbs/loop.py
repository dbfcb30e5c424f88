"""From served traffic to the next data set."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from residency import config
from residency.cli import Result
from residency.config import Settings
from residency.conversations import (
    FROM_TRAFFIC,
    SPLITS,
    read_conversations,
    write_conversations,
)
from residency.errors import InputError, MissingError
from residency.pipeline import Chain
from residency.progress import say, track
from residency.types import Conversation
from residency.verbs import chain

if TYPE_CHECKING:
    from residency.traffic.store import TrafficStore
    from residency.watch.corpus import Corpus
    from residency.watch.trust import Judged, Opinions

Sides = Mapping[str, Sequence[Conversation]]


def build(workspace: Path, source: str, unrated: bool) -> Result:
    """Make the data set; with the source `traffic` first take in what was served.

    Where the workspace has no data file yet, what was served becomes it.
    """
    if source != "traffic":
        if unrated:
            raise InputError("--unrated is about traffic", hint="add --from traffic")
        return chain.run(workspace, "data")
    from residency.data import added

    settings = config.load(workspace)
    there = (workspace / settings.data.file).is_file()
    sides = _sides(workspace, settings) if there else {}
    with _opened(workspace, settings) as served:
        made = served.corpus(sides, unrated)
    file = workspace / (FROM_TRAFFIC if there else settings.data.file)
    if not there:
        _first(file, made)
    elif made.rows or file.exists():
        added.write(file, made.rows)
    words = _in_words(made.counts)
    done = chain.run(workspace, "data")
    lines = [words, f"rows: {file}"] if made.rows else [words]
    if made.contradictory:
        lines.append("contradictory cases wait for a label: residency data review")
    return Result(
        data={**done.data, "traffic": made.counts, "file": str(file)},
        text="\n".join([*lines, done.text]),
    )


def _in_words(counts: Mapping[str, int]) -> str:
    if not counts.get("exchanges"):
        return "traffic: no exchange is recorded yet"
    there = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
    return f"traffic: {there}" + ("" if counts["added"] else "; nothing is new")


def _first(file: Path, made: Corpus) -> None:
    if not made.rows:
        raise InputError(
            f"{file}: there is no such file, and the traffic has no answer to learn",
            hint="add feedback or reviews; --unrated takes an API's answers as they are",
        )
    write_conversations(file, [one.row for one in made.rows])


def _sides(workspace: Path, settings: Settings) -> dict[str, list[Conversation]]:
    """The data set as it is now."""
    known = Chain(workspace, settings)
    known.run("data")
    folder = known.store.output(known.done("data"), "dataset").path
    return {side: read_conversations(folder / f"{side}.jsonl") for side in SPLITS}


@dataclass(frozen=True)
class _Served:
    """What was served from a workspace."""

    workspace: Path
    settings: Settings
    store: TrafficStore

    @cached_property
    def said(self) -> Opinions:
        from residency.watch.trust import opinions

        return opinions(self.store.feedback())

    def judged(self) -> Iterator[Judged]:
        from residency.watch.trust import judge

        remote = {name for name, one in self.settings.serve.models.items() if one.url}
        for exchange in track(self.store.between(0, math.inf), "exchanges read", 0):
            if one := judge(exchange, self.said, remote):
                yield one

    def corpus(self, sides: Sides, unrated: bool) -> Corpus:
        from residency.data import added
        from residency.watch.corpus import corpus

        before = added.read(self.workspace / FROM_TRAFFIC)
        return corpus(self.judged(), sides, before, self.settings.data, unrated=unrated)


@contextlib.contextmanager
def _opened(workspace: Path, settings: Settings) -> Iterator[_Served]:
    from residency.traffic.store import opened

    with opened(workspace, settings.traffic) as store:
        yield _Served(workspace, settings, store)


def review(workspace: Path, file: Path | None, count: int) -> Result:
    """Write the cases that are most worth a label, or read the labels of `file` in."""
    settings = config.load(workspace)
    with _opened(workspace, settings) as served:
        if file is not None:
            return _read_in(served, file)
        return _write_out(served, count)


def _read_in(served: _Served, file: Path) -> Result:
    from residency.watch import review

    labels = review.read(file)
    kept = served.store.rate(labels)
    gone = len(labels) - kept
    text = f"labels read in: {kept}"
    if gone:
        text += f"; about exchanges that are not kept any more: {gone}"
    if kept:
        text += "\nmake them part of the data set with: residency data build --from traffic"
    return Result(data={"read": kept, "gone": gone}, text=text)


def _write_out(served: _Served, count: int) -> Result:
    from residency.watch import review

    settings, path = served.settings.data, served.workspace / review.FILE_NAME
    review.check_read(path, served.said)  # before the long work
    there = (served.workspace / settings.file).is_file()
    sides = _sides(served.workspace, served.settings) if there else {}
    disputed = {one.exchange for one in served.corpus(sides, False).contradictory}
    cases = review.queue(
        served.judged(), disputed, _unknown(served, sides), settings.near_duplicate, count
    )
    review.write(path, cases, served.said)
    reasons = review.reasons(cases)
    words = ", ".join(f"{name} {n}" for name, n in reasons.items())
    text = f"cases: {words}\nfill in {path}, then: residency data review {path.name}"
    return Result(
        data={"cases": len(cases), "reasons": reasons, "file": str(path)},
        text=text if cases else "no case is worth a label now",
    )


def _unknown(served: _Served, sides: Sides) -> set[str]:
    """The exchanges, of a random choice, that are like nothing that was taught; none where there is
    no encoder or nothing taught."""
    from residency.watch.nearness import MOST, Nearness

    taught = [row.question for row in sides.get("train", ())]
    asked: dict[str, str] = {}
    for one in served.judged():
        asked.setdefault(one.prompt[-1].content, one.exchange)
    texts = sorted(asked, key=lambda text: asked[text])[:MOST]
    if not (taught and texts):
        return set()
    try:
        nearness = Nearness(served.workspace, taught)
    except MissingError as error:
        say(f"what is unknown is left out: {error.message}")
        return set()
    far = nearness.unknown(nearness.of(texts))
    return {asked[text] for text, is_far in zip(texts, far, strict=True) if is_far}
