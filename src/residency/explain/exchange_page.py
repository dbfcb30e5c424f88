"""The page of one recorded exchange: one HTML file that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Iterator

from residency.explain.exchange import UNSURE, Examined, Said
from residency.explain.page import said
from residency.pages import template

_LISTED = 12
_SHIFTED = 0.01  # nats; what rounding to Q8_0 does to a token stays below


def render(one: Examined, model: str) -> str:
    """The page; `model` is the name of the full model."""
    page = template("residency.explain", "exchange.html.j2", said=said, visible=visible)
    return page.render(
        one=one,
        model=model,
        unsure=unsure(one),
        shifted=shifted(one),
        limit=UNSURE,
        count=sum(token.unsure for token in one.answer),
        differing=sum(token.differs for token in one.answer),
        mean=_mean(one),
    )


def visible(text: str) -> str:
    """With a mark for a line's end, and a dot for a space at the edge of a token."""
    bare = text.strip(" ")
    left = len(text) - len(text.lstrip(" "))
    right = len(text) - left - len(bare)
    return ("·" * left + bare + "·" * right).replace("\n", "⏎").replace("\t", "⇥")


def unsure(one: Examined) -> list[tuple[int, Said]]:
    """The tokens below `UNSURE` with their places, the least likely first."""
    found = [(place, token) for place, token in enumerate(one.answer) if token.unsure]
    return sorted(found, key=lambda pair: pair[1].share)[:_LISTED]


def shifted(one: Examined) -> list[tuple[int, Said]]:
    """Where the build is furthest from the full model, or holds another token likeliest."""
    found = [
        (place, token)
        for place, token in enumerate(one.answer)
        if token.build and (token.differs or token.build.divergence > _SHIFTED)
    ]
    found.sort(key=lambda pair: -pair[1].build.divergence if pair[1].build else 0.0)
    return found[:_LISTED]


def _mean(one: Examined) -> float | None:
    all_ = [token.build.divergence for token in one.answer if token.build]
    return sum(all_) / len(all_) if all_ else None


def told(one: Examined) -> Iterator[str]:
    """The findings for a terminal."""
    yield f"{one.source}: {len(one.answer)} tokens of answer"
    low = unsure(one)
    count = sum(token.unsure for token in one.answer)
    yield f"unsure of {count}" + "".join(
        f"\n  {said(token.piece)!r} {token.share:.1%}; likeliest {said(token.likeliest)!r} "
        f"{token.likeliest_share:.1%}"
        for _, token in low[:5]
    )
    if one.build:
        differing = sum(token.differs for token in one.answer)
        yield (
            f"{one.build} against the full model: another likeliest token at {differing}, "
            f"mean divergence {_mean(one):.4f} nats a token"
        )
    for row in one.rows[:3]:
        alike = "" if row.meaning is None else f"meaning {row.meaning:.2f}, "
        yield f"near: {row.source} ({alike}spelling {row.spelling:.2f}) {row.question[:60]!r}"
