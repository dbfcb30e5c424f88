"""A person's exchanges go with one command, which tells the audit log no name."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from residency import audit
from residency.cli import main
from residency.traffic.mask import masked, pseudonym
from residency.traffic.store import TrafficStore
from tests.traffic.exchanges import exchange


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "residency.toml").write_text('name = "desk"\n[data]\nfile = "x.jsonl"\n')
    return tmp_path


def erase(workspace: Path, subject: str, code: int = 0) -> dict[str, object]:
    words = ["traffic", "erase", "--json", "--workspace", str(workspace), "--", subject]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == code, result.output
    answer: dict[str, object] = json.loads(result.stdout)
    return answer


def test_beside_an_open_store_it_erases_masked_and_whole(workspace: Path) -> None:
    (workspace / ".residency").mkdir()
    store = TrafficStore(workspace / ".residency" / "traffic.db")
    bobs = [exchange(1, "first", subject="bob"), exchange(2, "second", subject="bob")]
    store.add([bobs[0], masked(bobs[1], store.salt), exchange(3, subject="ada")])
    assert erase(workspace, "bob") == {"erased": 2, "rows": 0, "removed": []}
    assert [one.id for one in store.between(0, 1e12)] == [exchange(3).id]
    (entry,) = audit.read(workspace)
    assert entry.act == "traffic erased"
    assert entry.details == {"subject": pseudonym("bob", store.salt), "exchanges": 2}


def test_the_report_that_may_quote_a_person_goes(workspace: Path) -> None:
    (workspace / ".residency").mkdir()
    store = TrafficStore(workspace / ".residency" / "traffic.db")
    said = ["my rash itches", *(f"question {n}" for n in range(18))]
    store.add(
        exchange(n, text, subject="" if n else "bob", tags={"workload_id": "ab"[n % 2]})
        for n, text in enumerate(said)
    )
    words = ["traffic", "report", "--workspace", str(workspace)]
    assert CliRunner().invoke(main, words).exit_code == 0
    reports = workspace / "reports"
    assert all("my rash itches" in path.read_text() for path in reports.iterdir())
    removed = ["reports/traffic.json", "reports/traffic.html"]
    assert erase(workspace, "bob") == {"erased": 1, "rows": 0, "removed": removed}
    assert list(reports.iterdir()) == []


def test_without_any_record_there_is_nothing_to_erase(workspace: Path) -> None:
    assert erase(workspace, "--bob") == {"erased": 0, "rows": 0, "removed": []}


def test_an_empty_subject_is_refused(workspace: Path) -> None:
    assert "no subject" in str(erase(workspace, "", code=3)["error"])
