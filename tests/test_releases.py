from __future__ import annotations

from pathlib import Path

import pytest

from residency import releases
from residency.errors import InputError
from residency.store import Store
from tests.serve.releases import release


def test_the_merged_model_of_a_release_is_that_of_its_export(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in ("1", "2"):
        draft = store.open("export", number, inputs={}, settings={}, seed=0)
        for name in ("merged", "Q8_0"):
            (draft.path / name).mkdir()
            (draft.path / name / "model").write_text(name + number)
        outputs = {name: (draft.path / name, "model") for name in ("merged", "Q8_0")}
        record = draft.finish(outputs, {})
    made = release(artifact=record.outputs["Q8_0"]["digest"])
    assert releases.merged_model(store, made).digest == record.outputs["merged"]["digest"]
    with pytest.raises(InputError, match="from which merged model"):
        releases.merged_model(store, release(artifact="0" * 64))


def test_a_release_whose_model_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the release's model is gone"):
        releases.model_file(Store(tmp_path), release(artifact="a"))
