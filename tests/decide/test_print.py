"""What a browser prints: page one is the answer, the evidence follows."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from unicodedata import normalize

import pytest
from pypdf import PdfReader

from residency.decide import memo
from residency.decide.decision import Decision
from residency.decide.facts import Facts

CHROMIUM = shutil.which("chromium") or ""
CASES = sorted(path.stem for path in (Path(__file__).parent / "cases").glob("*.toml"))
A4 = (595, 842)
"""Points: 210 by 297 mm."""


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no chromium: apt-get install chromium")
@pytest.mark.parametrize("name", CASES)
def test_the_answer_is_one_page_of_a4(
    name: str, case: Callable[[str], tuple[Facts, Decision]], tmp_path: Path
) -> None:
    facts, decision = case(name)
    (tmp_path / "memo.html").write_text(memo.render(decision, facts, "2026-01-31T12:00:00.000"))
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer")
    places = (f"--user-data-dir={tmp_path}", f"--print-to-pdf={tmp_path}/memo.pdf")
    subprocess.run(
        [CHROMIUM, *flags, *places, f"file://{tmp_path}/memo.html"],
        check=True,
        capture_output=True,
        timeout=120,
    )
    pages = PdfReader(tmp_path / "memo.pdf").pages
    assert tuple(round(float(side)) for side in pages[0].mediabox[2:]) == A4
    texts = [" ".join(normalize("NFKC", page.extract_text()).split()) for page in pages]
    for sentence in (memo.headline(decision), memo.compliance(decision, facts)):
        assert sentence in texts[0]
    assert ("When it has paid for itself" in texts[0]) == bool(decision.memory)
    assert [n for n, text in enumerate(texts) if "Each category" in text] == [1]
    assert "What it rests on" in " ".join(texts[1:])
