from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from residency import releases
from residency.errors import InputError, RefusedError
from residency.store import Store
from residency.verbs import provenance
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
    assert (
        releases.made_beside(store, made, "none", "merged").digest
        == record.outputs["merged"]["digest"]
    )
    with pytest.raises(InputError, match="no merged was made"):
        releases.made_beside(store, release(artifact="0" * 64), "merged")


def laid_out(workspace: Path) -> tuple[Store, Path]:
    store = Store(workspace)
    draft = store.root / "draft"
    (draft / "model").mkdir(parents=True)
    (draft / "model" / "weights").write_text("weights")
    (draft / "README.md").write_text("# a card\n")
    made = release(artifact=store.put(draft, "build").digest)
    folder = releases.lay_out(store, made)
    releases.write(store, made)
    return store, folder


def test_a_release_has_a_folder_with_the_verdict_and_the_sums(tmp_path: Path) -> None:
    store, folder = laid_out(tmp_path)
    kept = store.root / "objects" / releases.read(store, "r1").artifact
    assert (folder / "model" / "weights").samefile(kept / "model" / "weights")
    assert (kept / "README.md").read_text() == "# a card\n"
    assert "## Verdict" in (folder / "README.md").read_text()
    run = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=folder, check=True, capture_output=True
    )
    assert run.stdout == b"README.md: OK\nmodel/weights: OK\n"


@pytest.mark.parametrize("fault", ["changed", "missing", "more"])
def test_what_is_not_as_released_is_named(tmp_path: Path, fault: str) -> None:
    _, folder = laid_out(tmp_path)
    assert "every file is as released" in provenance.verify(tmp_path, "", None).text
    file = folder / ("more" if fault == "more" else "model/weights")
    file.unlink(missing_ok=True)
    if fault != "missing":
        file.write_text("others")
    with pytest.raises(RefusedError, match=f"r1: not as released: {file.relative_to(folder)}$"):
        provenance.verify(tmp_path, "r1", None)


def test_rollback_goes_back_step_by_step(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for day in "123":
        releases.write(store, release(name=f"r{day}", created=f"2026-01-0{day}T00:00:00Z"))
    told = [provenance.rollback(tmp_path).data for _ in range(2)]
    assert told == [{"current": "r2", "left": "r3"}, {"current": "r1", "left": "r2"}]
    with pytest.raises(RefusedError, match="no release was served before r1"):
        provenance.rollback(tmp_path)
    assert releases.current_name(store) == "r1"


def test_a_release_whose_model_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the release's model is gone"):
        releases.model_file(Store(tmp_path), release(artifact="a"))
