"""The gate's page: one HTML file that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from residency.builds import BASE, F16
from residency.gate.baseline import API
from residency.gate.plot import plot
from residency.gate.rules import LOWEST, RATE_WORDS
from residency.gate.score import Relation
from residency.gate.tally import RELATIONS, Marked
from residency.pages import template
from residency.types import Conversation, Message

EXAMPLES = 20
DEPARTED = RELATIONS[1:]
EXAMPLE_CHARACTERS = 1500
METRICS = {
    "macro_f1": "macro F1 of the labels",
    "field_f1": "F1 of the fields",
    "rouge_l": "ROUGE-L",
    "refusals": "answers that refuse",
    "repetition": "answers that repeat themselves",
    "length": "tokens for each of the reference's",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What the builds of `names` answered, alike: whether it is right, how it relates to f16's."""

    names: tuple[str, ...]
    text: str
    exact: bool
    relation: Relation


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One test case as the page shows it; long texts are cut."""

    source: str
    prompt: tuple[Message, ...]
    reference: str
    replies: tuple[Reply, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """Cases for a person to read: where a build departs from f16, and where the subject is wrong.

    `subject` is the release, or f16 where nothing ships; `more_*` count what is not shown.
    """

    subject: str
    changed: tuple[Example, ...]
    more_changed: int
    wrong: tuple[Example, ...]
    more_wrong: int


def examples(marked: Mapping[str, Marked], cases: Sequence[Conversation], subject: str) -> Examples:
    """The first cases of each sort, in the order of the test split."""
    levels = [one for name, one in marked.items() if name not in (BASE, F16, API)]
    numbers = range(len(cases))
    changed = [i for i in numbers if any(one.relations.get(i) in DEPARTED for one in levels)]
    wrong = [i for i, score in marked[subject].scores.items() if not score.exact]
    return Examples(
        subject=subject,
        changed=tuple(example(marked, cases[i], i) for i in changed[:EXAMPLES]),
        more_changed=max(0, len(changed) - EXAMPLES),
        wrong=tuple(example(marked, cases[i], i) for i in wrong[:EXAMPLES]),
        more_wrong=max(0, len(wrong) - EXAMPLES),
    )


def render(verdict: Mapping[str, Any], shown: Examples) -> str:
    """The page, from what `verdict.json` holds (see `residency.gate.stage`) and the examples."""
    page = template("residency.gate", "report.html.j2", **FILTERS)
    settings = verdict["settings"]
    rows = verdict["rows"]
    return page.render(
        v=verdict,
        shown=shown,
        rate_words=RATE_WORDS,
        plot=plot(rows, verdict["main"], verdict["release"]),
        rates=[name for name in (*LOWEST, "lead") if any(name in row["rates"] for row in rows)],
        limits={name: settings[name] for name in (*LOWEST, "different")},
        fields=_in_order(name for row in rows for name in row["by_field"]),
        metrics={
            name: words
            for name, words in METRICS.items()
            if any(name in row["metrics"] for row in rows)
        },
        levels=[row for row in rows if row["relations"]],
        beside_api=[row for row in rows if row["to_api"] and row["build"] != API],
    )


def example(marked: Mapping[str, Marked], case: Conversation, number: int) -> Example:
    """A case with the answers of those who gave one, the same ones together."""
    alike: dict[str, list[str]] = {}
    for name, one in marked.items():
        if number in one.answers:
            alike.setdefault(one.answers[number].text, []).append(name)
    replies = []
    for text, names in alike.items():
        first = marked[names[0]]
        replies.append(
            Reply(
                names=tuple(names),
                text=_cut(text),
                exact=first.scores[number].exact,
                relation=first.relations.get(number, "different"),
            )
        )
    return Example(
        source=case.source,
        prompt=tuple(
            Message(role=m.role, content=_cut(m.said)) for m in case.prompt if m.role != "system"
        ),
        reference=_cut(case.answer),
        replies=tuple(replies),
    )


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _cut(text: str) -> str:
    more = len(text) - EXAMPLE_CHARACTERS
    return text if more <= 0 else f"{text[:EXAMPLE_CHARACTERS]}… ({more} more characters)"


def _number(value: float) -> str:
    return f"{value:.3f}"


def _size(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count else "none"


def _seconds(value: float) -> str:
    return f"{1000 * value:,.0f} ms" if value < 10 else f"{value:,.1f} s"


FILTERS = {"size": _size, "seconds": _seconds, "number": _number}
