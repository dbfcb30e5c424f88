"""The shipped rules and dashboard, judged by Prometheus's own tool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from residency.cli import main
from residency.config import WatchSettings
from residency.watch.observer import Observer
from tests.watch.events import event
from tests.watch.test_metrics import SAMPLE

RULES = Path(str(files("residency.watch") / "prometheus.rules.yml"))
DASHBOARD = json.loads((files("residency.watch") / "grafana.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
_WORDS = re.compile(r"\b(?:residency|gen_ai|process)[a-z_:0-9]*")
_LABELS = {"gen_ai_request_model", "gen_ai_token_type", "residency"}
"""What looks like a metric and is a label, or the job's name."""


@pytest.fixture(scope="module")
def promtool() -> str:
    if found := shutil.which("promtool"):
        return found
    pytest.skip("promtool is not installed; Debian's package prometheus has it")


def run(promtool: str, *arguments: str) -> str:
    ran = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The names of all samples that `/metrics` has when everything has happened once."""
    observer = Observer(["desk"], WatchSettings(api_price_in=1.0, api_price_out=1.0))
    observer.finished(event(guards=("empty",), context="pruned", cost=0.1))
    observer.look(SAMPLE)
    families = text_string_to_metric_families(observer.exposition().decode())
    return {one.name for family in families for one in family.samples}


def bare(expression: str) -> str:
    """A dashboard's expression as Prometheus gets it: its variables filled in."""
    return expression.replace("$__rate_interval", "5m").replace("$model", ".*")


def test_the_rules_are_valid(promtool: str) -> None:
    assert "13 rules found" in run(promtool, "check", "rules", str(RULES))


def test_the_metrics_are_as_prometheus_wants_them(promtool: str) -> None:
    observer = Observer(["desk"], WatchSettings(api_price_in=1.0))
    observer.finished(event(guards=("empty",), context="pruned", cost=0.1))
    observer.look(SAMPLE)
    command = [promtool, "check", "metrics"]
    ran = subprocess.run(
        command, input=observer.exposition().decode(), capture_output=True, text=True, check=False
    )
    # Its one lint that we do not follow: a counter's `_created`, which the library adds.
    said = [line for line in (ran.stdout + ran.stderr).splitlines() if "_created" not in line]
    assert said == []


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    told = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{told}}}", "values": values}


def firing(at: str, alerts: dict[str, dict[str, str]]) -> dict[str, Any]:
    """What fires then, told by Prometheus's own series of it; the annotations are not compared."""
    samples = []
    for name, labels in alerts.items():
        known = {"alertname": name, "alertstate": "firing", **labels}
        told = ",".join(f'{key}="{value}"' for key, value in sorted(known.items()))
        samples.append({"labels": f"ALERTS{{{told}}}", "value": 1})
    return {"expr": 'ALERTS{alertstate="firing"}', "eval_time": at, "exp_samples": samples}


def test_the_alerts_fire_and_keep_still(promtool: str, tmp_path: Path) -> None:
    """In Prometheus itself, on series that are sound for half an hour and then are not."""
    desk = {"gen_ai_request_model": "desk"}
    requests = "residency_requests_total"
    answered = {**desk, "outcome": "answered", "route": "local"}
    failed = {**desk, "outcome": "failed", "route": "local"}
    bucket, of = "gen_ai_server_request_duration_seconds_bucket", {**desk, "error_type": ""}
    sound = [
        series(requests, "0+60x90", **answered),
        series(requests, "0+0x30 6+6x60", **failed),
        series(bucket, "0+60x30 1800+0x60", **of, le="0.32"),
        series(bucket, "0+60x90", **of, le="5.12"),
        series(bucket, "0+60x90", **of, le="+Inf"),
        series("residency_engine_up", "1x30 0x60", **desk, build="r1"),
        series("residency_disk_free_bytes", "50x30 4x60"),
        series("residency_disk_total_bytes", "100x90"),
        series("residency_budget_spent", "70x30 90x60", **desk),
        series("residency_budget_limit", "100x90", **desk),
        series("up", "1x30 0x60", job="residency", instance="a"),
        series("residency_engine_memory_bytes", "1000x30 1000+20x60", **desk, build="r1"),
    ]
    wanted = {
        "ResidencyErrors": {**desk, "severity": "warn"},
        "ResidencyManyErrors": {**desk, "severity": "page"},
        "ResidencySlower": {**desk, "severity": "warn"},
        "ResidencyEngineDown": {**desk, "severity": "page", "build": "r1"},
        "ResidencyMemoryGrows": {**desk, "severity": "warn", "build": "r1"},
        "ResidencyDiskFilling": {"severity": "warn"},
        "ResidencyBudgetNearing": {**desk, "severity": "warn"},
        "ResidencyGone": {"severity": "page", "job": "residency", "instance": "a"},
    }
    # That memory grows takes an hour to be seen.
    early = {name: one for name, one in wanted.items() if name != "ResidencyMemoryGrows"}
    lasting = {name: one for name, one in wanted.items() if name != "ResidencySlower"}
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": sound,
                # What has lasted longer than the good time before it has become the usual.
                "promql_expr_test": [firing("29m", {}), firing("60m", early),
                                     firing("88m", lasting)],
            }
        ],
    }  # fmt: skip
    file = tmp_path / "rules.test.yml"
    file.write_text(json.dumps(test))  # JSON is YAML
    run(promtool, "test", "rules", str(file))


def test_every_expression_of_the_dashboard_is_valid(promtool: str, tmp_path: Path) -> None:
    rules = [{"record": f"r:{n}", "expr": bare(one)} for n, one in enumerate(EXPRESSIONS)]
    file = tmp_path / "dashboard.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    run(promtool, "check", "rules", str(file))


def test_dashboard_and_rules_name_what_there_is(known: set[str]) -> None:
    recorded = set(re.findall(r"record: (\S+)", RULES.read_text()))
    expressions = [bare(one) for one in EXPRESSIONS]
    expressions += re.findall(r"expr:(?: >-)?([\s\S]*?)\n +(?:- |for:|labels:)", RULES.read_text())
    named = {name for one in expressions for name in _WORDS.findall(one)} - _LABELS
    assert named - known - recorded == set()
    assert len(named) > 20


def test_they_are_written_where_they_are_wanted(tmp_path: Path) -> None:
    folder = tmp_path / "prometheus"
    ran = CliRunner().invoke(main, ["watch", "rules", str(folder), "--json"])
    assert ran.exit_code == 0, ran.output
    assert [Path(one).name for one in json.loads(ran.stdout)["files"]] == [
        "prometheus.rules.yml",
        "grafana.json",
    ]
    assert (folder / "prometheus.rules.yml").read_text() == RULES.read_text()
    assert json.loads((folder / "grafana.json").read_text()) == DASHBOARD


def test_the_dashboard_is_whole() -> None:
    panels = DASHBOARD["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    assert all(one["title"] and one["targets"] for one in panels)
    places = {(one["gridPos"]["x"], one["gridPos"]["y"]) for one in panels}
    assert len(places) == len(panels)
