"""The next data set out of served traffic: what was corrected, confirmed, or answered by an API."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from residency.config import DataSettings
from residency.conversations import FROM_TRAFFIC
from residency.data.added import Added
from residency.data.dedupe import compared, question_key
from residency.near_duplicates import canonical, group_near
from residency.store import sha256_text
from residency.types import Conversation, Message
from residency.watch.trust import RANK, Judged

Sides = Mapping[str, Sequence[Conversation]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """`rows` are what `traffic.jsonl` is to hold; `counts` say what became of the exchanges;
    `contradictory` are those of which people, or the data file, say different things."""

    rows: list[Added]
    counts: dict[str, int]
    contradictory: list[Judged]


def corpus(
    judged: Iterable[Judged],
    sides: Sides,
    before: Sequence[Added],
    settings: DataSettings,
    *,
    unrated: bool = False,
) -> Corpus:
    """What `traffic.jsonl` becomes, from `before`: a row keeps its side for good, and a new one
    gets that of what is near it, or else one by its text and the seed.

    `sides` are those of the present data set. What is near its test split is left out. With
    `unrated` an API's answers are taken too of which nobody said anything.
    """
    made = _Making(sides, settings)
    seen, withdrawn = _by_question(made, judged, unrated)
    kept = [one for one in before if one.exchange not in withdrawn]
    made.counts["withdrawn"] = len(before) - len(kept)
    known = {made.key(one.row): place for place, one in enumerate(kept)}
    fresh: list[Added] = []
    for key, candidates in seen.items():
        if (chosen := made.chosen(candidates)) is None:
            continue
        row = _row(chosen)
        if key in known:
            old = kept[known[key]]
            changed = canonical(old.row.answer) != canonical(row.row.answer)
            made.counts["changed" if changed else "known"] += 1
            kept[known[key]] = replace(row, split=old.split) if changed else old
        elif made.new(key, chosen):
            fresh.append(row)
    placed = made.placed(kept, fresh)
    made.counts["added"] = len(placed)
    return Corpus(rows=[*kept, *placed], counts=dict(made.counts), contradictory=made.contradictory)


def _by_question(
    made: _Making, judged: Iterable[Judged], unrated: bool
) -> tuple[dict[str, list[Judged]], set[str]]:
    """The answers to learn by what they answer, and the exchanges that were called wrong since."""
    seen: dict[str, list[Judged]] = defaultdict(list)
    withdrawn = set()
    for one in judged:
        made.counts["exchanges"] += 1
        if one.why and (one.why != "given" or unrated):
            made.counts[one.why] += 1
            seen[made.key(_row(one).row)].append(one)
        elif one.down:
            made.counts["rated down"] += 1
            withdrawn.add(one.exchange)
        else:
            made.counts["not used"] += 1
    return seen, withdrawn


class _Making:
    """The data set that rows are added to, and the counts."""

    def __init__(self, sides: Sides, settings: DataSettings) -> None:
        self.counts: Counter[str] = Counter()
        self.contradictory: list[Judged] = []
        self._settings = settings
        # What came from traffic before is among `before`, and judged anew.
        self._base = [
            (side, row)
            for side, rows in sides.items()
            for row in rows
            if not row.source.startswith(f"{FROM_TRAFFIC}:")
        ]
        self._known = {question_key(row): row for _, row in self._base}

    def key(self, row: Conversation) -> str:
        return question_key(row.with_system(self._settings.system))

    def chosen(self, candidates: Sequence[Judged]) -> Judged | None:
        """The latest of those that most trusted people agree on; None where no answer has more
        than half of them."""
        best = min(RANK.index(one.why) for one in candidates if one.why)
        trusted = [one for one in candidates if one.why == RANK[best]]
        votes = Counter(canonical(one.trusted) for one in trusted)
        answer, count = votes.most_common(1)[0]
        if 2 * count <= len(trusted):
            self._dispute(trusted)
            return None
        self.counts["repeated"] += len(candidates) - 1
        agreed = [one for one in trusted if canonical(one.trusted) == answer]
        return max(agreed, key=lambda one: (one.time, one.exchange))

    def new(self, key: str, one: Judged) -> bool:
        """Whether the data file does not answer the very same question."""
        row = self._known.get(key)
        if row is None:
            return True
        if canonical(row.answer) == canonical(one.trusted):
            self.counts["in the data file"] += 1
        else:
            self._dispute([one])
        return False

    def _dispute(self, among: Sequence[Judged]) -> None:
        self.counts["contradictory"] += len(among)
        self.contradictory.append(max(among, key=lambda one: (one.time, one.exchange)))

    def placed(self, kept: Sequence[Added], fresh: Sequence[Added]) -> list[Added]:
        """`fresh` with their sides, without those that are near the data file's test split."""
        rows = [*self._base, *((one.split, one.row) for one in kept)]
        texts = [compared(row) for _, row in rows] + [compared(one.row) for one in fresh]
        found: dict[int, Added] = {}
        for group in group_near(texts, self._settings.near_duplicate):
            new = [i - len(rows) for i in group if i >= len(rows)]
            near = [i for i in group if i < len(rows)]
            if not new:
                continue
            if any(rows[i][0] == "test" for i in near if i < len(self._base)):
                self.counts["near the test split"] += len(new)
                continue
            side = rows[near[0]][0] if near else self._drawn([compared(fresh[i].row) for i in new])
            found |= {i: replace(fresh[i], split=side) for i in new}
        return [found[i] for i in sorted(found)]

    def _drawn(self, texts: Sequence[str]) -> str:
        """A side by the shares of the settings, the same for the same text."""
        settings = self._settings
        # Of the first in their order: the lowest of several digests would be drawn low.
        share = int(sha256_text(f"{settings.seed}\0{min(texts)}")[:12], 16) / 16**12
        if share < settings.test:
            return "test"
        return "validation" if share < settings.test + settings.validation else "train"


def _row(one: Judged) -> Added:
    answer = Message(role="assistant", content=one.trusted)
    if one.calls and one.trusted == one.given:
        answer = Message(role="assistant", content="", extra={"tool_calls": one.calls})
    messages = (*one.prompt, answer)
    return Added(
        row=Conversation(messages=messages, source=one.exchange, tools=one.tools),
        split="",
        exchange=one.exchange,
        why=one.why,
        answered=one.answered if one.trusted == one.given else "a person",
        time=one.time,
    )
