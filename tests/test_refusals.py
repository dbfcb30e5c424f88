from __future__ import annotations

import csv
from importlib import resources

from residency.refusals import refuses


def test_refusals_on_the_pairs() -> None:
    """Every refusal that was written as one is seen, and hardly anything else is taken for one."""
    text = resources.files("residency.gate").joinpath("pairs.tsv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    refusals = [row["other"] for row in rows if row["kind"] == "refusal"]
    answers = [
        row["one"] for row in rows if "lawyer" not in row["one"] and "律师" not in row["one"]
    ]
    assert len(refusals) == 16
    assert [text for text in refusals if not refuses(text)] == []
    assert [text for text in answers if refuses(text)] == []


def test_a_reservation_at_the_end_is_no_refusal() -> None:
    assert not refuses("Take it twice a day with food. " * 8 + "I can't give medical advice.")
