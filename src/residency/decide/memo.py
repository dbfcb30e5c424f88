"""The memo: one HTML file that needs nothing beside itself, the answer before the evidence."""

from __future__ import annotations

from collections.abc import Iterable

from residency.decide import chart
from residency.decide.decision import CategoryDecision, Decision
from residency.decide.draws import Range
from residency.decide.facts import Facts
from residency.decide.grounds import LEVEL, SLOTS
from residency.decide.rules import Fired, amount
from residency.pages import template
from residency.types import to_dict

_SWINGS = 8  # bars of the sensitivity chart
_FIRST = 8  # categories named on the first page


def headline(decision: Decision) -> str:
    """The answer in one sentence."""
    moved = sum(one.order is not None for one in decision.categories)
    count = len(decision.categories)
    why = f": {' and '.join(decision.results)}" if decision.results else ""
    return {
        "slm": "Move to a small model of your own"
        + (f" ({moved} of {count} categories can move now)." if moved < count else "."),
        "hybrid": f"Move {moved} of {count} categories to a small model of your own; "
        "the rest stays on the API.",
        "api": f"Stay on the API{why}.",
        "unknown": f"Not to be decided yet{why}.",
    }[decision.verdict]


def summary(decision: Decision) -> list[str]:
    """The figures behind the answer, a sentence each."""
    money, currency = decision.money, decision.currency
    lines = [f"The bill at the API is {_range(money.api)} {currency} a month."]
    if not decision.memory:
        return lines
    lines.append(
        f"{decision.moved_calls:.0%} of the calls and {decision.moved_bill:.0%} of the money move. "
        f"After that everything costs {_range(money.after)} {currency} a month, with all that is "
        "bought written off."
    )
    lines.append(_saving(decision))
    lines.append(_break_even(decision))
    return lines


def _saving(decision: Decision) -> str:
    money, currency = decision.money, decision.currency
    if money.saving.mid <= 0:
        more = amount(-money.saving.mid)
        return f"That costs {more} {currency} a month more: it is not done for the money."
    whole = money.saving.mid / money.api.mid
    return (
        f"That saves {_range(money.saving)} {currency} a month: {whole:.0%} of the whole bill, "
        f"{whole / decision.moved_bill:.0%} of what moves."
    )


def _break_even(decision: Decision) -> str:
    money, even = decision.money, decision.money.break_even
    start = f"{_range(money.capital)} {decision.currency} at the start"
    if even is None:
        return f"{start} do not come back within {money.horizon} months in most draws."
    return (
        f"{start} come back in month {even.mid:.0f} ({even.low:.0f} to {even.high:.0f}), within "
        f"{money.horizon} months in {money.pays_back:.0%} of the draws."
    )


def compliance(decision: Decision, facts: Facts) -> str:
    """What leaves the house after the decision."""
    waiting = any(one.order is None for one in decision.categories)
    if facts.at_home:
        more = " The categories that cannot move yet have no place to run until then." * waiting
        return "No request may leave; what moves is answered on machines of your own." + more
    if decision.verdict in ("api", "unknown"):
        return "All requests go to the API as now, with whatever personal data is in them."
    return (
        "What moves is answered at home, but for the calls that fall back to the API (a share that "
        "the price table states). " + "The rest goes to the API as now." * waiting
    ).strip()


def latency(categories: Iterable[CategoryDecision], *, after: bool) -> float | None:
    """The mean p95 in seconds by calls, where the API's is known, now or after the move.

    After it, what moved counts with the slow end of the estimate.
    """
    known = [one for one in categories if one.latency is not None]
    calls = sum(one.share_calls for one in known)
    if not calls:
        return None
    times = [one.after[1] if after and one.after else one.latency or 0.0 for one in known]
    return sum(t * one.share_calls for t, one in zip(times, known, strict=True)) / calls


def render(decision: Decision, facts: Facts, created: str) -> str:
    """The page; `created` is when it was decided, as ISO 8601."""
    percent = "{:.0%}".format
    page = template("residency.decide", "memo.html.j2", money=amount, range=_range, percent=percent)
    swings = decision.money.swings[:_SWINGS]
    ends = [end for swing in swings for end in (swing.low, swing.high)]
    moved = sorted((c for c in decision.categories if c.order), key=lambda c: c.order or 0)
    alike: dict[tuple[Fired, ...], list[str]] = {}
    for one in decision.categories:
        alike.setdefault(one.fired, []).append(one.name)
    return page.render(
        d=decision,
        created=created[:16].replace("T", " "),
        headline=headline(decision),
        summary=summary(decision),
        compliance=compliance(decision, facts),
        latency_now=latency(decision.categories, after=False),
        latency_after=latency(decision.categories, after=True),
        wanted=facts.latency,
        moved=moved,
        first=_FIRST,
        chart=chart.break_even(decision.money, decision.outlook) if moved else None,
        size=chart,
        swings=swings,
        span=(min([0.0, *ends]), max([1.0, *ends])),
        top=max(decision.money.api.high, decision.money.after.high, 1.0),
        inputs={k: v for k, v in to_dict(facts).items() if k != "loads"},
        loads=to_dict(facts.loads),
        fired=[(names, rules) for rules, names in alike.items()],
        level=LEVEL,
        slots=SLOTS,
    )


def _range(value: Range) -> str:
    return f"{amount(value.mid)} ({amount(value.low)} to {amount(value.high)})"
