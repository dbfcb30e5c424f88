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
from residency.data.dedupe import canonical, compared
from residency.errors import DataError
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
    made = []
    for members in groups:
        counted = Counter(label for i in members for label in of_row[i] if often[label] > 1)
        order = min(sha256_text(f"{seed}\0{compared(rows[i])}") for i in members)
        made.append(_Group(rows=list(members), labels=counted, order=order))
    return sorted(made, key=lambda group: group.order)


def _assign(groups: Sequence[_Group], shares: Mapping[str, float]) -> dict[str, list[int]]:
    total = sum(len(group.rows) for group in groups)
    lacking = {side: share * total for side, share in shares.items()}
    wanted: dict[str, dict[str, float]] = defaultdict(dict)
    holders: dict[str, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        for label, count in group.labels.items():
            holders[label].append(number)
            for side, share in shares.items():
                wanted[label][side] = wanted[label].get(side, 0.0) + share * count
    sides: dict[str, list[int]] = {side: [] for side in shares}
    placed: set[int] = set()

    def place(number: int, side: str) -> None:
        group = groups[number]
        placed.add(number)
        sides[side].extend(group.rows)
        lacking[side] -= len(group.rows)
        for label, count in group.labels.items():
            wanted[label][side] -= count

    def remaining(label: str) -> tuple[int, str]:
        return sum(number not in placed for number in holders[label]), label

    waiting = set(holders)
    while waiting:
        rarest = min(waiting, key=remaining)
        waiting.remove(rarest)
        for number in _largest_first(groups, [n for n in holders[rarest] if n not in placed]):
            side = max(shares, key=lambda s: (wanted[rarest][s], lacking[s]))
            place(number, side)
    for number in _largest_first(groups, [n for n in range(len(groups)) if n not in placed]):
        place(number, max(shares, key=lambda s: lacking[s]))
    return sides


def _largest_first(groups: Sequence[_Group], numbers: Sequence[int]) -> list[int]:
    """A large group placed last would spoil the proportions that the small ones have reached."""
    return sorted(numbers, key=lambda number: -len(groups[number].rows))
