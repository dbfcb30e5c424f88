from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from residency.watch.metrics import SECONDS
from tests.engines.processes import ROOT
from tests.watch.events import event

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otlp is missing")


@pytest.fixture
def collector() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.fakes.otlp_collector"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield process
        process.kill()


def got(collector: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """What it was sent until now, ended with it."""
    collector.kill()
    assert collector.stdout is not None
    return [json.loads(line) for line in collector.stdout]


def test_requests_arrive_as_spans_and_metrics(collector: subprocess.Popen[str]) -> None:
    from residency.watch.otlp import Exporter

    assert collector.stdout is not None
    url = f"http://127.0.0.1:{int(collector.stdout.readline())}/"
    exporter = Exporter(url, "clinic-desk", lambda model: model if model == "desk" else "other")
    exporter(event(time=1_800_000_000.5, latency=0.5, ttft=0.1, guards=("retry:dry",)))
    exporter(event(model="made-up", status=502, error="engine_error", route="remote", ttft=None))
    exporter.close()
    told = got(collector)
    good, bad = (one["span"] for one in told if "span" in one)
    assert good["name"] == "chat desk"
    assert good["kind"] == "SPAN_KIND_SERVER"
    assert good["startTimeUnixNano"] == "1800000000000000000"
    assert good["endTimeUnixNano"] == "1800000000500000000"
    assert good["events"][0]["timeUnixNano"] == "1800000000100000000"
    known = good["attributes"]
    assert known["gen_ai.operation.name"] == "chat"
    assert known["gen_ai.request.model"] == "desk"
    assert known["gen_ai.response.model"] == "r1"
    assert (known["gen_ai.usage.input_tokens"], known["gen_ai.usage.output_tokens"]) == ("50", "9")
    assert good["resource"]["service.name"] == "clinic-desk"
    assert bad["name"] == "chat other"
    assert bad["status"] == {"code": "STATUS_CODE_ERROR", "message": "engine_error"}
    assert bad["attributes"]["error.type"] == "engine_error"
    points = [one["metric"] for one in told if "metric" in one]
    durations = [one for one in points if one["name"] == "gen_ai.server.request.duration"]
    assert durations[0]["explicitBounds"] == list(SECONDS)
    assert sorted(one["attributes"].get("error.type", "") for one in durations) == [
        "",
        "engine_error",
    ]
    assert {one["name"] for one in points} == {
        "gen_ai.server.request.duration",
        "gen_ai.server.time_to_first_token",
        "gen_ai.server.time_per_output_token",
        "gen_ai.client.token.usage",
    }
    (first,) = (one for one in points if one["name"] == "gen_ai.server.time_to_first_token")
    assert first["sum"] == 0.1
    assert all(one["unit"] for one in points)


def test_a_collector_that_is_away_stops_nothing() -> None:
    """Nothing listens on port 9; the exporter's threads give up by themselves."""
    code = (
        "from residency.watch.otlp import Exporter; from tests.watch.events import event;"
        "one = Exporter('http://127.0.0.1:9', 'desk', str); one(event()); one.close(); print('on')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert ran.stdout == "on\n"
