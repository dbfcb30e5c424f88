"""The training page, from what a stage left; curves that no chart should bend."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from residency.train.curves import BOTTOM, LEFT, RIGHT, TOP, chart
from residency.train.page import render

FINDING = {
    "name": "refusals",
    "count": 7,
    "total": 90,
    "words": "7 of 90 rows have an answer that declines to answer",
    "remedy": "take them out",
    "rows": ["a.jsonl:3"],
}


def page(**changes: object) -> str:
    found = {
        "start": {"loss": 2.5, "spread": 0.5, "rows": 20},
        "curves": {
            "train": [[n, 2.5 / n] for n in range(1, 40)],
            "validation": [[20, 1.0], [39, 0.4]],
            "norms": [[n, 100.0 / n**2] for n in range(1, 40)],
            "rates": [[n, 1e-3] for n in range(1, 40)],
        },
        "diagnosis": {"state": "overfitting", "words": "the loss fell", "remedy": "fewer epochs"},
        "retries": [{"rate": 0.9, "words": "it broke", "back_to": 12, "next_rate": 0.001}],
        "causes": [FINDING],
        "findings": [],
        "examples": [
            {
                "source": "a.jsonl:9",
                "question": "<script>alert(1)</script>",
                "reference": "是",
                "before": "",
                "after": "no",
                "ended": False,
            }
        ],
        "general": {"asked": 30, "before": 14, "after": 3},
        **changes,
    }
    figures = {
        "parameters": 134_515_008,
        "steps": 39,
        "planned_steps": 40,
        "best": {"step": 39, "loss": 0.4},
        "plan": {"reasons": ["rank 16: 350 rows"]},
    }
    return render(found, figures, {"name": "desk", "base": "SmolLM2"})


def test_all_of_it_is_shown() -> None:
    text = page()
    for shown in (
        "Overfitting",
        "At learning rate 0.9 it broke. It went back to step 12",
        "7 of 90 rows",
        "a.jsonl:3; and 6 more",
        "rank 16: 350 rows",
        "14 of 30 before training",
        "(empty)",
    ):
        assert shown in " ".join(text.split())
    assert "<script>" not in text
    assert text.count("<svg") == 3


def test_it_needs_nothing_from_elsewhere() -> None:
    links = re.findall(r"(?:src|href)=|https?://|@import|url\(", page())
    assert not links


def test_the_page_is_well_formed() -> None:
    open_tags: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "br"):
                open_tags.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    for text in (page(), page(retries=[], causes=[], findings=[FINDING])):
        Tags().feed(text)
        assert not open_tags


@pytest.mark.parametrize("top", [0.003, 1.0, 2.5, 97.0])
def test_a_chart_holds_its_points(top: float) -> None:
    points = [(n, top / n) for n in range(1, 9)]
    drawn = chart({"training": points}, [(8, top / 2)], "loss")
    assert drawn
    for x, y in (map(float, pair.split(",")) for pair in drawn.lines["training"].split()):
        assert LEFT <= x <= RIGHT
        assert TOP <= y <= BOTTOM
    assert max(y for y, _ in drawn.up) == BOTTOM
    assert f"training from {top:.3g}" in drawn.words


def test_values_of_many_sizes_stand_on_a_scale_of_tens() -> None:
    drawn = chart({"norm": [(1, 0.02), (2, 1.0), (3, 800.0)]}, [], "norm", tens=True)
    assert drawn
    assert [text for _, text in drawn.up] == ["0.01", "0.1", "1", "10", "100", "1e+03"]


def test_nothing_makes_no_chart() -> None:
    assert chart({"norm": []}, [], "norm") is None
    assert chart({"rate": [(1, 0.0)]}, [], "rate") is not None
