"""Which messages of a conversation may go, in which order, so that what stays still makes sense.

A *turn* is a user message with all that follows until the next one. A *pair* is an assistant's tool
calls with their results. Neither is ever parted. What is before the first user message stays, and
so do system messages, the first turn and the last: a question that lost its answer would be
answered again, and strict templates refuse two user messages in a row. Only the pairs inside those
two turns may go, the newest excepted, which waits for its answer: an agent's whole work can be one
turn.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

from residency.types import Message

Group = tuple[int, ...]
"""Places of messages that go together."""


def older(messages: Sequence[Message]) -> list[Group]:
    """The turns between the first and the last, oldest first, without their system messages."""
    return [
        tuple(place for place in turn if messages[place].role != "system")
        for turn in _turns(messages)[1:-1]
    ]


def droppable(messages: Sequence[Message]) -> list[Group]:
    """All that may go: the first turn's pairs, the older turns, the last turn's pairs."""
    turns = _turns(messages)
    if not turns:
        return []
    first = _pairs(messages, turns[0]) if len(turns) > 1 else []
    return [*first, *older(messages), *_pairs(messages, turns[-1])[:-1]]


def without(messages: Sequence[Message], groups: Sequence[Group]) -> tuple[Message, ...]:
    """`messages` in their order, without those in `groups`."""
    gone = {place for group in groups for place in group}
    return tuple(one for place, one in enumerate(messages) if place not in gone)


async def fewest(
    high: int, tokens: Callable[[int], Awaitable[int]], limit: int, *, low: int = 0
) -> tuple[int, int]:
    """The least number in `low`..`high` whose `tokens` are at most `limit`, and its tokens.

    `high`, if none is. `tokens` must not grow with its number; each call asks the engine.
    """
    found: int | None = None
    while low < high:
        middle = (low + high) // 2
        count = await tokens(middle)
        if count <= limit:
            high, found = middle, count
        else:
            low = middle + 1
    return high, await tokens(high) if found is None else found


def rounded(gone: int, groups: int) -> int:
    """`gone` of so many `groups`, rounded up to a step that grows with them: at most a quarter of
    them more, and the same for some turns of a conversation in a row."""
    step = 1 << max(0, (groups // 4).bit_length() - 1)
    return min(-(-gone // step) * step, groups)


def _turns(messages: Sequence[Message]) -> list[range]:
    starts = [place for place, one in enumerate(messages) if one.role == "user"]
    return [range(start, end) for start, end in pairwise([*starts, len(messages)])]


def _pairs(messages: Sequence[Message], turn: range) -> list[Group]:
    pairs: list[list[int]] = []
    for place in turn:
        if messages[place].extra.get("tool_calls"):
            pairs.append([place])
        elif messages[place].role == "tool" and pairs:
            pairs[-1].append(place)
    return [tuple(pair) for pair in pairs]
