"""Which row is for training, which for validation, which for the test.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label
Data", 2011): the rarest label first, each of its rows to the side that lacks it most. Labels are
the whole answer where it repeats, and the fields of a JSON answer, so that classes and their parts
are spread in proportion. Text that never repeats has no labels: its rows go where rows lack.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from residency.config import DataSettings
from residency.conversations import SPLITS
from residency.data.dedupe import compared
from residency.errors import DataError
from residency.near_duplicates import canonical
from residency.store import sha256_text
from residency.types import Conversation


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """Near-duplicates that must stay together; `labels` counts those of all its rows."""

    rows: list[int]
    labels: Counter[str]
    order: str


def split(
    rows: Sequence[Conversation], groups: Sequence[Sequence[int]], settings: DataSettings
) -> dict[str, list[Conversation]]:
    """The rows by side (`conversations.SPLITS`), each in the order of `rows`.

    Depends on the texts and the seed alone. Raises `DataError` when there are too few rows that
    differ to give each side its share.
    """
    least = round(1 / min(settings.validation, settings.test))
    if len(groups) < least:
        raise DataError(
            f"{len(groups)} rows that differ are too few: a share of "
            f"{min(settings.validation, settings.test)} needs at least {least}",
            hint="give more examples; 200 is a fair start, and 20 for each kind of answer",
        )
    shares = {"validation": settings.validation, "test": settings.test}
    shares = {"train": 1 - sum(shares.values()), **shares}
    sides = _assign(_groups(rows, groups, settings.seed), shares)
    if empty := [side for side in SPLITS if not sides[side]]:
        raise DataError(
            f"no rows are left for {' and '.join(empty)}: too many say nearly the same",
            hint="raise [data] near_duplicate, or give examples that differ more",
        )
    return {side: [rows[i] for i in sorted(sides[side])] for side in SPLITS}


def labels(answer: str) -> list[str]:
    """What an answer is stratified by: the whole of it and, in a JSON object, its fields."""
    whole = canonical(answer)
    try:
        value = json.loads(answer)
    except ValueError:
        return [whole]
    fields = value.items() if isinstance(value, dict) else ()
    return [whole, *(f"{key}\0{part}" for key, part in fields if isinstance(part, str | int))]


def _groups(
    rows: Sequence[Conversation], groups: Sequence[Sequence[int]], seed: int
) -> list[_Group]:
    of_row = [labels(row.answer) for row in rows]
    often = Counter(label for found in of_row for label in found)
    # Where answers are classes, one that stands alone is a rare class; elsewhere it says nothing.
    least = 1 if len({found[0] for found in of_row}) <= len(rows) / 2 else 2
    made = []
    for members in groups:
        counted = Counter(label for i in members for label in of_row[i] if often[label] >= least)
        order = min(sha256_text(f"{seed}\0{compared(rows[i])}") for i in members)
        made.append(_Group(rows=list(members), labels=counted, order=order))
    # A large group placed last would spoil the proportions that the small ones have reached.
    return sorted(made, key=lambda group: (-len(group.rows), group.order))


class _Sides:
    """The sides as they fill: which groups each has, and what each still lacks of each label."""

    def __init__(self, groups: Sequence[_Group], shares: Mapping[str, float]) -> None:
        total = sum(len(group.rows) for group in groups)
        labelled = sum((group.labels for group in groups), Counter[str]())
        self.groups: dict[str, list[_Group]] = {side: [] for side in shares}
        self.lacking = {side: share * total for side, share in shares.items()}
        self.trained = Counter[str]()
        self.wanted = {
            side: defaultdict(float, {label: share * n for label, n in labelled.items()})
            for side, share in shares.items()
        }

    def place(self, group: _Group, label: str = "") -> None:
        """Put `group` where `label` lacks most; a side that it would overfill is not asked."""
        size = len(group.rows)
        open_ = [s for s, lack in self.lacking.items() if s == "train" or lack + 0.5 >= size]
        self._add(
            group, max(open_, key=lambda s: (round(self.wanted[s][label], 6), self.lacking[s]))
        )

    def top_up(self, side: str) -> None:
        """Take from training what `side` lacks, and leave it some of every label where possible."""

        def spare(group: _Group) -> tuple[bool, float]:
            stays = all(self.trained[label] > n for label, n in group.labels.items())
            return stays, sum(self.wanted[side][label] for label in group.labels)

        while self.lacking[side] >= 1:
            small = [g for g in self.groups["train"] if len(g.rows) <= self.lacking[side]]
            if not small:
                return
            group = max(small, key=spare)
            self.groups["train"].remove(group)
            self._count(group, "train", -1)
            self._add(group, side)

    def _add(self, group: _Group, side: str) -> None:
        self.groups[side].append(group)
        self._count(group, side, 1)

    def _count(self, group: _Group, side: str, sign: int) -> None:
        self.lacking[side] -= sign * len(group.rows)
        for label, count in group.labels.items():
            self.wanted[side][label] -= sign * count
            self.trained[label] += sign * count if side == "train" else 0


def _assign(groups: Sequence[_Group], shares: Mapping[str, float]) -> dict[str, list[int]]:
    sides = _Sides(groups, shares)
    left = dict(enumerate(groups))
    holders: dict[str, set[int]] = defaultdict(set)
    for number, group in left.items():
        for label in group.labels:
            holders[label].add(number)
    while holders:
        rarest = min(holders, key=lambda label: (len(holders[label]), label))
        for number in sorted(holders.pop(rarest)):
            group = left.pop(number)
            sides.place(group, rarest)
            for label in group.labels.keys() & holders.keys():
                holders[label].discard(number)
    for group in left.values():
        sides.place(group)
    for side in ("test", "validation"):
        sides.top_up(side)
    return {s: [i for group in found for i in group.rows] for s, found in sides.groups.items()}
