from __future__ import annotations

import json
from pathlib import Path

from residency.config import DataSettings
from residency.data.check import check


def test_a_file_is_described_with_all_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    pairs = [("Where do I park?", "A"), ("where do I  park?", "A"), ("Where do I park?", "B")]
    pairs += [("Where do I park it?", "A"), ("Hello", "")]
    rows = [json.dumps({"prompt": p, "completion": c, "id": 1}) for p, c in pairs]
    path.write_text("\n".join([*rows, "{"]), encoding="utf-8")
    report = check(path, DataSettings(file="d.jsonl"))
    assert report["form"] == "prompt/completion"
    assert (report["rows"], report["wrong"]) == (6, 2)
    assert f"{path}:5: the answer is empty" in report["problems"]
    assert report["problems"][1].startswith(f"{path}:6: broken JSON")
    assert report["duplicates"] == {"count": 1, "rows": ["d.jsonl:2 (see d.jsonl:1)"]}
    assert report["contradictions"] == {"count": 1, "rows": ["d.jsonl:3 (see d.jsonl:1)"]}
    assert (report["differing"], report["near_duplicate_groups"]) == (2, 1)
    assert report["unused_keys"] == ["id"]
