from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from residency.config import EngineSettings, GateSettings
from residency.gate.answers import Speed
from residency.gate.report import EXAMPLES, examples, render
from residency.gate.stage import table
from residency.gate.tally import Marked
from residency.gate.verdict import decide
from residency.types import Conversation
from tests.gate.results import conversation, mark_all, tally_all

EVIL = "<script>alert('x')</script><img src=https://evil.example/x onerror=x>"
REFERENCE = '{"department": "billing", "urgency": "routine"}'
WRONG = '{"department": "billing", "urgency": "emergency"}'


class Elements(HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def result(cases: int = 30) -> tuple[dict[str, Any], dict[str, Marked], list[Conversation]]:
    asked = [
        conversation(EVIL if n == 1 else f"Message {n}", REFERENCE, line=n) for n in range(cases)
    ]
    marked = mark_all(
        "json",
        [REFERENCE] * cases,
        {
            "base-f16": [EVIL] * cases,
            "f16": [REFERENCE] * cases,
            "Q8_0": [REFERENCE] * cases,
            "Q4_K_M": [WRONG, EVIL, *[WRONG] * (cases - 2)],
        },
    )
    settings = GateSettings(exact=0.75, gain=0.5, valid_json=0.98)
    tallies = tally_all(marked)
    outcome = decide(tallies, settings, "json")
    speeds = dict.fromkeys(
        marked, Speed(tokens_per_second=71.5, p50=0.25, p95=12.5, memory=8 * 10**8)
    )
    verdict = {
        "name": "clinic-desk",
        "base": "SmolLM2-135M-Instruct",
        "kind": "json",
        "kind_words": "JSON objects",
        "cases": cases,
        "max_tokens": 40,
        "release": outcome.release,
        "verdict": outcome.headline,
        "doubt": outcome.doubt,
        "rule": outcome.rule,
        "rows": table(tallies, outcome, speeds),
        "settings": settings.model_dump(),
        "engine": EngineSettings().model_dump(),
    }
    return verdict, marked, asked


@pytest.fixture(scope="module")
def page() -> str:
    verdict, marked, cases = result()
    return render(verdict, examples(marked, cases, "Q8_0"))


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    elements = Elements(page)
    assert not {"script", "link", "img", "iframe", "object"} & set(elements.tags)
    assert not {"src", "href"} & {name for name, _ in elements.attributes}
    assert not re.search(r"url\(|@import", page)
    assert "default-src 'none'" in page


def test_answers_are_escaped(page: str) -> None:
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page
    assert "<script" not in page


def test_it_says_what_a_reader_needs(page: str) -> None:
    verdict, _, _ = result()
    for name in ("base-f16", "f16", "Q8_0", "Q4_K_M"):
        assert f'<th scope="row">{name}' in page
    for words in (verdict["verdict"], "12.5 s", "250 ms", "800 MB", "department", "urgency"):
        assert words in page
    assert "The measured value decides" in page
    assert "gate.exact" in page and "engine.context" in page
    assert "29 same" not in page and "0 same, 29 similar, 1 different" in page


def test_it_is_accessible(page: str) -> None:
    elements = Elements(page)
    assert page.lstrip().startswith("<!doctype html>")
    assert ("lang", "en") in elements.attributes
    assert elements.tags.count("caption") == elements.tags.count("table") == 5
    assert page.count("<svg") == page.count('role="img"') == page.count("aria-label") - 6
    assert "prefers-color-scheme: dark" in page and "width=device-width" in page


def test_bars_stay_inside_their_picture(page: str) -> None:
    for x, width in re.findall(r'class="band" x="([\d.-]+)" y="3" width="([\d.]+)"', page):
        assert 0 <= float(x) <= float(x) + float(width) <= 121


def test_examples_are_bounded_and_in_order() -> None:
    _, marked, cases = result()
    shown = examples(marked, cases, "Q4_K_M")
    assert [one.source for one in shown.changed] == [c.source for c in cases[:EXAMPLES]]
    assert (shown.more_changed, shown.more_wrong) == (10, 10)
    first = shown.changed[0]
    assert [reply.names for reply in first.replies] == [("base-f16",), ("f16", "Q8_0"), ("Q4_K_M",)]
    assert [m.role for m in first.prompt] == ["user"]
    assert first.replies[2].relation == "similar"


def test_where_nothing_differs_it_says_so() -> None:
    verdict, marked, cases = result()
    same = {name: one for name, one in marked.items() if name != "Q4_K_M"}
    page = render(verdict, examples(same, cases, "Q8_0"))
    assert "Nowhere: every build gave the answers of f16." in page
    assert "Nothing in this test split." in page


def test_long_texts_are_cut() -> None:
    cases = [conversation("q" * 5000, "a")]
    marked = mark_all("text", ["a"], {"base-f16": ["b"], "f16": ["b"], "Q8_0": ["c"]})
    shown = examples(marked, cases, "f16")
    assert shown.changed[0].prompt[0].content.endswith("… (3500 more characters)")
