"""What calls were like, by day: counted while they are read, in bounded memory."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from residency.near_duplicates import canonical
from residency.traffic.feedback import Feedback
from residency.traffic.profile import asked, script
from residency.types import Exchange
from residency.watch.trust import Opinions, answer_of

if TYPE_CHECKING:
    from residency.watch.drift import Days
    from residency.watch.nearness import Nearness

_DAY = 86_400
_DISTINCT = 2000
_STEP = 2.0
"""Lengths are counted in steps that double."""


class Observed:
    """The calls of one time. `counts` has, by the name of what is watched, values by day; `remote`
    are the served models that are an API elsewhere. `opinions` counts what was said of the calls:
    by source, by rating, and what was corrected.

    Of the texts a random choice is kept, at most 2,000 distinct ones, for what an encoder tells.
    """

    def __init__(self, said: Opinions, remote: Collection[str]) -> None:
        self.calls = 0
        self.opinions: Counter[str] = Counter()
        self.counts: dict[str, dict[int, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self._said, self._remote = said, remote
        self._texts: dict[str, Counter[int]] = {}
        self._heap: list[tuple[int, str]] = []

    def add(self, exchange: Exchange) -> None:
        """Count one call."""
        day = int(exchange.time // _DAY)
        self.calls += 1
        if text := asked(exchange):
            self._keep(text, day)
            self.counts["script"][day][script(text) or "no letters"] += 1
        if exchange.prompt_tokens:
            self.counts["prompt length"][day][_step(exchange.prompt_tokens)] += 1
        if exchange.completion_tokens:
            self.counts["answer length"][day][_step(exchange.completion_tokens)] += 1
        if route := _route(exchange, self._remote):
            self.counts["escalated"][day][route] += 1
        if opinion := self._said.get(exchange.id):
            self._rated(exchange, opinion, day)

    def _rated(self, exchange: Exchange, opinion: Mapping[str, Feedback], day: int) -> None:
        for source, one in opinion.items():
            self.opinions[source] += 1
            self.opinions["corrected"] += bool(one.correction)
            if one.rating:
                self.opinions[one.rating] += 1
        if word := _verdict(exchange, opinion):
            self.counts["rated"][day][word] += 1

    def _keep(self, text: str, day: int) -> None:
        """Those with the lowest digests: the same choice whatever the order."""
        if text in self._texts:
            self._texts[text][day] += 1
            return
        digest = hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()
        item = -int.from_bytes(digest), text
        if len(self._heap) < _DISTINCT:
            heapq.heappush(self._heap, item)
        elif item > self._heap[0]:
            del self._texts[heapq.heapreplace(self._heap, item)[1]]
        else:
            return
        self._texts[text] = Counter([day])

    @property
    def texts(self) -> list[str]:
        """The chosen ones, in the order of their digests."""
        return [text for _, text in sorted(self._heap)]

    def by_day(self, texts: Sequence[str], values: Sequence[str]) -> Days:
        """How often each of `values`, one for each of `texts`, was asked on each day."""
        found: dict[int, Counter[str]] = defaultdict(Counter)
        for text, value in zip(texts, values, strict=True):
            for day, count in self._texts[text].items():
                found[day][value] += count
        return found


def counted(before: Observed, now: Observed) -> dict[str, tuple[Days, Days]]:
    """What needs no encoder, before and now."""
    names = before.counts.keys() & now.counts.keys()
    return {name: (before.counts[name], now.counts[name]) for name in sorted(names)}


def compared(
    workspace: Path, before: Observed, now: Observed, taught: Sequence[str]
) -> dict[str, tuple[Days, Days]]:
    """All that is watched, before and now. Categories are those of all texts; what is unknown is so
    to `taught`, the questions of the data set, or where there are none to the texts
    before.

    Raises `MissingError` without the encoder.
    """
    pairs = counted(before, now)
    if before.texts and now.texts:
        from residency.watch.nearness import Nearness

        # A text is like itself: so those that stand for what was taught do not count as before.
        half = before.texts[::2]
        nearness = Nearness(workspace, taught or half)
        left = before.texts if taught else before.texts[1::2]
        pairs["category"] = _categories(nearness, before, now)
        pairs["unknown"] = _unknown(nearness, before, left), _unknown(nearness, now, now.texts)
    return pairs


def _categories(nearness: Nearness, before: Observed, now: Observed) -> tuple[Days, Days]:
    """Those of both together: among the categories of before, what is new would be dealt out to the
    nearest ones and hardly be seen."""
    import numpy as np

    from residency.traffic import clusters, naming

    texts = list(dict.fromkeys([*before.texts, *now.texts]))
    found = clusters.discover(nearness.of(texts), np.ones(len(texts)))
    names = naming.names(texts, found.labels)
    named = {text: names[label] for text, label in zip(texts, found.labels, strict=True)}

    def of(one: Observed) -> Days:
        return one.by_day(one.texts, [named[text] for text in one.texts])

    return of(before), of(now)


def _unknown(nearness: Nearness, one: Observed, texts: Sequence[str]) -> Days:
    far = nearness.unknown(nearness.of(texts))
    return one.by_day(texts, ["unknown" if each else "known" for each in far])


def _step(length: int) -> str:
    """The step that `length` falls into, by its end."""
    end = 1
    while end < length:
        end = int(end * _STEP)
    return f"up to {end}"


def _route(exchange: Exchange, remote: Collection[str]) -> str:
    """Whether a question for one of our models came to the API; empty where it asked none."""
    routes = exchange.tags.get("routes")
    if not isinstance(routes, list | tuple) or all(one in remote for one in routes):
        return ""
    return "escalated" if routes[-1] in remote else "answered here"


def _verdict(exchange: Exchange, opinion: Mapping[str, Feedback]) -> str:
    """Whether the answer was right, by the owner's word or else the client's."""
    one = opinion.get("review") or opinion.get("client")
    if one is None or not (one.rating or one.correction):
        return ""
    same = one.correction and canonical(one.correction) == canonical(answer_of(exchange)[0])
    return "right" if one.rating == "up" or same else "wrong"
