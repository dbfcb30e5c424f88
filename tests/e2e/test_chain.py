"""The chain on the real model: what it leaves, and that nothing is done twice."""

import json
from pathlib import Path

import pytest

from residency import releases
from residency.releases import model_file
from residency.store import Store, sha256_file
from tests.e2e.conftest import residency


def test_every_stage_ran_and_the_smallest_build_was_released(chain) -> None:
    folder, said = chain
    assert [s["stage"] for s in said["stages"]] == ["data", "train", "export", "gate"]
    assert not any(s["cached"] for s in said["stages"])
    assert said["release"] == "Q4_K_M"
    release = releases.current(Store(folder))
    path = model_file(Store(folder), release)
    assert release.build.digest == sha256_file(path)
    assert release.build.size == path.stat().st_size
    assert Path(said["page"]).read_text().startswith("<!doctype html>")
    verdict = json.loads((folder / "reports" / "verdict.json").read_text())
    assert verdict["release"] == "Q4_K_M"


def test_run_again_redoes_nothing(chain) -> None:
    folder, first = chain
    again = json.loads(residency("run", "--workspace", folder, "--json").stdout)
    assert all(s["cached"] for s in again["stages"])
    assert [s["outputs"] for s in again["stages"]] == [s["outputs"] for s in first["stages"]]


def test_the_training_page_comes_where_nothing_is_trained_too(chain) -> None:
    folder, _ = chain
    page = folder / "reports" / "training.html"
    page.unlink()
    said = json.loads(residency("train", "--workspace", folder, "--json").stdout)
    assert said["stages"][-1]["cached"]
    assert Path(said["page"]) == page.resolve()
    assert "tiny-desk: did it learn?" in page.read_text()


def test_an_adapter_says_nothing_that_changes_from_run_to_run(chain) -> None:
    """peft keeps the modules as a set, whose order is another one in each process."""
    folder, _ = chain
    store = Store(folder)
    adapter = next(store.output(r, "adapter") for r in store.records() if r.stage == "train")
    config = json.loads((adapter.path / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])
    assert not config["base_model_name_or_path"]


def test_a_changed_setting_redoes_its_stage_and_those_after(chain, tmp_path: Path) -> None:
    folder, _ = chain
    path = folder / "residency.toml"
    text = path.read_text()
    try:
        path.write_text(text.replace("different = 1.0", "different = 1.0\nexact = 1.0"))
        done = residency("run", "--workspace", folder, "--json", code=2)
        said = json.loads(done.stdout)
        assert [s["cached"] for s in said["stages"]] == [True, True, True, False]
        assert said["release"] is None
    finally:
        path.write_text(text)


@pytest.mark.slow
def test_the_gate_shows_whether_an_importance_matrix_helps(chain) -> None:
    folder, _ = chain
    path = folder / "residency.toml"
    text = path.read_text()
    try:
        path.write_text(text.replace("[gate]", 'imatrix = "both"\n[gate]\ndivergence = true'))
        residency("run", "--workspace", folder)
        verdict = json.loads((folder / "reports" / "verdict.json").read_text())
        page = (folder / "reports" / "report.html").read_text(encoding="utf-8")
    finally:
        path.write_text(text)
        residency("run", "--workspace", folder)
    rows = {row["build"]: row for row in verdict["rows"]}
    assert list(rows) == ["base-f16", "f16", "Q8_0", "Q4_K_M", "Q4_K_M-imatrix"]
    without, spared = (rows[name] for name in ("Q4_K_M", "Q4_K_M-imatrix"))
    assert without["passed"] and spared["passed"]
    far, near = (row["divergence"]["answers"]["kld"]["value"] for row in (without, spared))
    assert 0 < near != far > 0
    assert "Q4_K_M-imatrix" in page


def test_lineage_reaches_the_data_file(chain) -> None:
    folder, _ = chain
    tree = json.loads(residency("lineage", "--workspace", folder, "--json").stdout)["lineage"]
    data = tree["from"]["dataset"]
    assert data["stage"] == "data"
    assert data["from"]["file"]["digest"] == sha256_file(folder / "desk.jsonl")
    assert tree["from"]["adapter"]["stage"] == "train"


def test_releases_are_listed_and_shown(chain) -> None:
    folder, _ = chain
    listed = json.loads(residency("release", "list", "--workspace", folder, "--json").stdout)
    assert listed["current"] == listed["releases"][0]["name"]
    shown = residency("release", "show", "--workspace", folder).stdout
    assert "Q4_K_M" in shown


def test_gc_keeps_what_the_release_was_made_from(chain) -> None:
    folder, _ = chain
    stray = folder / ".residency" / "work" / "train-0000"
    stray.mkdir(parents=True)
    refused = residency("gc", "--workspace", folder, code=2, input="n\n")
    assert "nothing was deleted" in refused.stderr
    assert stray.exists()
    residency("gc", "--workspace", folder, "--yes")
    assert not stray.exists()
    again = json.loads(residency("run", "--workspace", folder, "--json").stdout)
    assert all(s["cached"] for s in again["stages"])


def test_ask_answers_through_an_endpoint_of_its_own(chain) -> None:
    folder, _ = chain
    said = json.loads(residency("ask", "where is my bill", "--workspace", folder, "--json").stdout)
    assert said["answer"]
    streamed = residency("ask", "where is my bill", "--stream", "--workspace", folder)
    assert streamed.stdout.strip() == said["answer"].strip()


def test_chat_remembers_until_an_empty_line(chain) -> None:
    folder, _ = chain
    done = residency("chat", "--workspace", folder, "--json", input="hello\nand the bill?\n\n")
    roles = [m["role"] for m in json.loads(done.stdout)["messages"]]
    assert roles == ["user", "assistant", "user", "assistant"]


def test_preview_marks_what_is_learnt(chain) -> None:
    folder, _ = chain
    shown = residency("data", "preview", "--workspace", folder, "--count", 1).stdout
    assert '⟦{"about"' in shown
