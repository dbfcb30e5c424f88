"""The page of the real model, in a real browser: its script, its figures, how it looks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from residency.explain import page
from residency.explain.examples import EXAMPLES
from residency.explain.explanation import Explanation, explain
from residency.explain.heads import KINDS
from residency.explain.model import Opened, open_model
from residency.models.base import BaseModel
from tests.browser import MARKS, PHONE, browser
from tests.browser import opened as tab_of

__all__ = ["browser"]
pytestmark = MARKS


@pytest.fixture(scope="module")
def opened(base: BaseModel) -> Opened:
    return open_model(base.path, base.name)


@pytest.fixture(scope="module")
def shown(opened: Opened) -> list[Explanation]:
    return [explain(opened, one.text) for one in EXAMPLES]


@pytest.fixture(scope="module")
def file(
    opened: Opened, shown: list[Explanation], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    target = tmp_path_factory.mktemp("page") / "explain.html"
    html = page.render(opened, list(zip(EXAMPLES, shown, strict=True)))
    target.write_text(html, encoding="utf-8")
    return target


@pytest.fixture(params=["light", "dark"])
def view(request: pytest.FixtureRequest, browser: Any, file: Path) -> Iterator[Any]:
    """The page in one colour scheme."""
    with tab_of(browser, file, request.param) as tab:
        yield tab


def share(text: str) -> float:
    return float(re.sub(r"under |%", "", text)) / 100


def slide(tab: Any, name: str, value: float) -> None:
    tab.locator(f"#{name}").evaluate(
        "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", str(value)
    )


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, 0, 1.0), (0.5, 0, 1.0), (1.8, 40, 1.0), (1.0, 0, 0.9), (0.7, 20, 0.8), (2.0, 0, 0.95)],
)
def test_sampling_is_what_transformers_makes_of_the_logits(
    view: Any, shown: list[Explanation], temperature: float, top_k: int, top_p: float
) -> None:
    for name, value in (("temperature", temperature), ("top-k", top_k), ("top-p", top_p)):
        slide(view, name, value)
    logits = torch.tensor(shown[0].logits)[None]
    warpers: list[Any] = [TemperatureLogitsWarper(temperature)] if temperature != 1 else []
    warpers += [TopKLogitsWarper(top_k)] if top_k else []
    warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    for warper in warpers:
        logits = warper(None, logits)
    right = logits.softmax(dim=-1)[0]
    left = int(torch.isfinite(logits).sum())
    best = right.topk(min(12, left)).values
    found = view.locator("#next .share").evaluate_all("a => a.map(e => Number(e.dataset.share))")
    assert found == pytest.approx(best.tolist(), abs=2e-3, rel=2e-3)
    words = view.locator("#next-words").inner_text()
    # The page's logits are in 16-bit steps: a token at the very edge may fall either way.
    assert int(words.split(" of ")[0].replace(",", "")) == pytest.approx(left, rel=0.01, abs=1)


def test_attention_on_the_page_is_the_models(view: Any, shown: list[Explanation]) -> None:
    found = shown[0].attention
    assert found is not None
    for layer, head, token in ((1, 1, 3), (12, 5, 9), (30, 9, 16)):
        slide(view, "layer", layer)
        slide(view, "head", head)
        view.locator("#focus input").nth(token).check(force=True)
        rows = view.locator("#numbers tbody tr")
        assert rows.count() == token + 1
        cells = rows.evaluate_all("rows => rows.map(r => [...r.cells].map(c => c.innerText))")
        weights = found.weights[layer - 1, head - 1, token, : token + 1]
        scores = found.scores[layer - 1, head - 1, token, : token + 1]
        for cell, weight, score in zip(cells, weights, scores, strict=True):
            assert share(cell[4].strip()) == pytest.approx(float(weight), abs=1e-3)
            assert float(cell[3].replace("−", "-")) == pytest.approx(float(score), abs=0.011)
            raw = float(cell[2].replace("−", "-"))
            assert raw / found.scaling[0] ** -1 == pytest.approx(float(score), abs=0.011)
        group = (head - 1) // 3
        total = weights @ found.value[layer - 1, group, : token + 1, :4]
        shown_sum = view.locator("#sum code").inner_text().replace("−", "-").split()
        assert [float(x) for x in shown_sum] == pytest.approx(total.tolist(), abs=0.011)


def test_layers_words_and_kinds_are_told(view: Any, shown: list[Explanation]) -> None:
    found = shown[0]
    assert found.lens is not None
    assert found.heads is not None
    view.locator("#focus input").nth(len(found.pieces) - 1).check(force=True)
    rows = view.locator("#lens tbody tr")
    assert rows.count() == 31
    last = rows.nth(30).locator("td").nth(2).inner_text()
    assert share(last.strip()) == pytest.approx(float(found.lens.answer[30, -1]), abs=1e-3)
    counts = view.locator("#map-key li").all_inner_texts()
    kinds = found.heads.kinds.ravel().tolist()
    assert [c.strip() for c in counts] == [
        f"{kind}: {kinds.count(n)} of 270" for n, kind in enumerate(KINDS)
    ]
    best = max(found.effects, key=lambda effect: effect.bits)
    first = view.locator("#effects tbody tr").nth(0).locator("td")
    assert share(first.nth(1).inner_text()) == pytest.approx(best.share, abs=1e-3)
    assert view.locator("[data-lacks]:visible").count() == 0


def test_texts_are_changed_and_words_are_moved_by_keys(view: Any) -> None:
    view.get_by_text("The animal", exact=True).click()
    assert "animal" in view.locator("#short q").inner_text()
    chosen = "#focus input:checked + span"
    assert view.locator(chosen).inner_text() == "·it"
    view.locator("#focus input:checked").focus()
    view.keyboard.press("ArrowRight")
    assert view.locator(chosen).inner_text() == "·was"
    view.locator("#layer").focus()
    before = view.locator("#layer-out").inner_text()
    view.keyboard.press("ArrowLeft")
    assert view.locator("#layer-out").inner_text() != before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser: Any, file: Path, scheme: str) -> None:
    with tab_of(browser, file, scheme, PHONE) as tab:
        tab.screenshot(path=str(file.with_name(f"{scheme}-phone.png")), full_page=True)


def test_it_is_a_few_megabytes(file: Path) -> None:
    assert file.stat().st_size < 4_000_000
