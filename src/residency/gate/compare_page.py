"""The page of a comparison: one HTML file that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from residency.gate.compare import Comparison
from residency.gate.report import DEPARTED, EXAMPLES, FILTERS, METRICS, example
from residency.gate.rules import RATE_WORDS
from residency.pages import template


def render(found: Comparison, figures: Mapping[str, Any]) -> str:
    """The page of `found`, whose `compare.figures` these are; different answers come first."""
    relations = list(found.marked.values())[1].relations
    departed = [n for kind in reversed(DEPARTED) for n, r in relations.items() if r == kind]
    shown = [example(found.marked, found.trial.cases[n], n) for n in departed[:EXAMPLES]]
    words = {**RATE_WORDS, "different": "share of answers that differ"}
    page = template("residency.gate", "compare.html.j2", **FILTERS)
    return page.render(
        v=figures,
        shown=shown,
        more=max(0, len(departed) - EXAMPLES),
        rate_words=words,
        metrics={n: m for n, m in METRICS.items() if n in figures["sides"][0]["metrics"]},
    )
