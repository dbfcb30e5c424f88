from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from residency.config import EngineSettings, GateSettings
from residency.gate.plot import plot
from residency.gate.report import EXAMPLES, examples, render
from residency.gate.result import Result, figures
from residency.gate.rules import Rules
from residency.gate.statistics import noise_floor
from residency.gate.tally import Marked
from residency.gate.verdict import decide
from residency.types import Conversation
from tests.gate.results import SPEED, conversation, mark_all, tally_of

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


def result(
    cases: int = 30, **extras: Any
) -> tuple[dict[str, Any], dict[str, Marked], list[Conversation]]:
    asked = [
        conversation(EVIL if n == 1 else f"Message {n}", REFERENCE, line=n) for n in range(cases)
    ]
    texts = {
        "base-f16": [EVIL] * cases,
        "f16": [REFERENCE] * cases,
        "Q8_0": [REFERENCE] * cases,
        "Q4_K_M": [WRONG, EVIL, *[WRONG] * (cases - 2)],
        "api": [REFERENCE] * (cases - 5),
    }
    references = [REFERENCE] * cases
    marked = mark_all("json", references, texts)
    tallies = tally_of("json", references, texts)
    noise = noise_floor(["exact"] * 16)
    settings = GateSettings(exact=0.75, gain=0.5, valid_json=0.98)
    rules = Rules(settings=settings, kind="json", noise=noise)
    speeds = dict.fromkeys(marked, SPEED)
    found = Result(
        cases=asked,
        rules=rules,
        marked=marked,
        tallies=tallies,
        outcome=decide(tallies, rules, speeds),
        speeds=speeds,
        load={},
        twice="Q8_0",
        divergence={},
        extras={"judge": None, "forgetting": None, **extras},
        notes=[],
    )
    about = {"name": "clinic-desk", "base": "SmolLM2-135M-Instruct", "max_tokens": 40}
    engine = EngineSettings().model_dump()
    whole = {**figures(found, about), "settings": settings.model_dump(), "engine": engine}
    return whole, marked, asked


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
    assert elements.tags.count("caption") == elements.tags.count("table") == 7
    assert page.count("<svg") == page.count('role="img"') == page.count("aria-label") - 8
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
    assert [reply.names for reply in first.replies] == [
        ("base-f16",),
        ("f16", "Q8_0", "api"),
        ("Q4_K_M",),
    ]
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


def test_the_plot_shows_every_build_and_the_api(page: str) -> None:
    picture = page[page.index('<svg class="plot"') :].partition("</svg>")[0]
    for words in ("base-f16: 270 MB, 0.000", "Q8_0: 145 MB, 1.000", ">API</text>"):
        assert words in picture
    assert picture.count("<circle") == 4
    assert picture.count('class="ships"') == 1
    points = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', picture)
    assert all(0 <= float(x) <= 640 and 0 <= float(y) <= 320 for x, y in points)


def test_labels_of_builds_of_one_size_stand_below_each_other() -> None:
    rate = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 71}
    sizes = {"f16": 270, "Q5_K_M": 112, "Q5_K_M-imatrix": 112.1, "Q4_K_M-imatrix": 70, "Q2_K": 155}
    rows = [
        {"build": name, "size": size * 1_000_000, "rates": {"exact": rate}}
        for name, size in sizes.items()
    ]
    *_, above, below, left, right = plot(rows, "exact", None).points
    assert abs(above.label - below.label) >= 12
    # less than 80 pixels apart, which a name of 14 letters fills
    assert len({below.label, left.label, right.label}) == 3


def test_it_says_why_and_what_it_cannot_tell(page: str) -> None:
    assert "Why Q8_0: passes: exact match 1.000 is at least 0.75" in page
    assert "Q8_0 was asked 16 cases twice" in page
    assert "With 30 cases you can&#39;t tell a difference of 2.0%" in page


def test_what_was_asked_for_beside_is_shown() -> None:
    rate = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 30}
    verdict, marked, cases = result(
        judge={
            "rows": {
                "Q8_0": {
                    "against": "f16", "better": 1, "worse": 2, "tie": 3, "flipped": 1,
                    "failed": 1, "errors": ["x:1: status 500"],
                }
            },
            "agreement": rate,
        },
        forgetting={"base": rate, "specialist": rate, "gain": rate, "p": 0.25, "lost": [EVIL]},
    )  # fmt: skip
    named = ("perplexity", "reference_perplexity", "kld", "kld_p99", "same_top")
    level, broken = verdict["rows"][2:4]
    level["divergence"] = {"fault": "", "answers": dict.fromkeys(named, rate)}
    broken["divergence"] = {"fault": "produces NaN", "answers": None}
    level["load"] = [
        {"users": 16, "ttft": 0.1, "ttft_p95": 0.2, "p95": 0.3, "tokens_per_second": 88.0}
    ]
    page = render(verdict, examples(marked, cases, "Q8_0"))
    for words in ("status 500", "50.0% right", "produces NaN", "<td>16</td>", "0.4 to 0.6"):
        assert words in page
    assert "<script" not in page
