from __future__ import annotations

import base64
import hashlib
import json
import re

import numpy as np

from residency.explain import page
from residency.explain.examples import Example
from residency.explain.explanation import Explanation, explain
from residency.explain.model import Opened
from residency.explain.packing import unpack
from residency.models.base import BaseModel
from tests.explain import shapes


def data(html: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_page_has_the_numbers_of_the_explanation(llama: Opened, explained: Explanation) -> None:
    html = page.render(llama, [(Example(title="", text=explained.text), explained)])
    (text,) = data(html)["texts"]
    assert explained.attention is not None
    assert explained.lens is not None
    assert explained.rotation is not None
    np.testing.assert_allclose(unpack(text["logits"]), explained.logits, atol=1e-3)
    for name in ("query", "key", "value"):
        right = getattr(explained.attention, name)
        np.testing.assert_allclose(unpack(text["attention"][name]), right, atol=1e-3)
    np.testing.assert_allclose(unpack(text["rotation"]["keys"]), explained.rotation.keys, atol=1e-3)
    np.testing.assert_allclose(unpack(text["lens"]["shares"]), explained.lens.shares, atol=1e-6)
    assert text["lens"]["ids"] == explained.lens.ids.tolist()
    words = data(html)["words"]
    assert all(str(token) in words for token in explained.lens.ids.ravel())


def test_the_page_loads_nothing_and_runs_its_own_script_only(
    llama: Opened, explained: Explanation
) -> None:
    html = page.render(llama, [(Example(title="", text=explained.text), explained)])
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", html)
    script = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    (own,) = script
    digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in html


def test_a_text_cannot_leave_its_place(llama: Opened) -> None:
    text = "</script><script>alert(1)</script> & <b>"
    html = page.render(llama, [(Example(title="<i>", text=text), explain(llama, text))])
    assert data(html)["texts"][0]["text"] == text
    assert "alert(1)</script>" not in html.replace("\\u003c/script", "")
    assert "<i>" not in html


def test_what_is_missing_is_left_out_of_the_numbers(base: BaseModel) -> None:
    opened = shapes.opened("mixtral", base.path)
    one = explain(opened, shapes.TEXT)
    (text,) = data(page.render(opened, [(Example(title="", text=one.text), one)]))["texts"]
    assert "firing" not in text
    assert text["missing"]["firing"]
