from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from residency.config import WatchSettings
from residency.watch.observer import Observer
from residency.watch.samples import Budget, EngineSample, Gpu, Sample
from residency.watch.windows import CODES
from tests.watch.events import event

PRICED = WatchSettings(api_price_in=1.0, api_price_out=3.0)
SAMPLE = Sample(
    time=1_800_000_000.0,
    memory=10,
    cpu=1.0,
    disk_free=40,
    disk_total=100,
    at_work=3,
    engines=(
        EngineSample(model="desk", build="r1", pid=7, memory=900, cpu=2.5, slots=4, busy=1,
                     cache=0.25, restarts=1),
        EngineSample(model="other-desk", build="r2", down="it is loading"),
    ),
    gpus=(Gpu(name="0", used=5, total=8, busy=0.5),),
    budgets={"big": Budget(spent=1.5, limit=10.0)},
)  # fmt: skip
Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def values(observer: Observer) -> Values:
    """Every sample by its name and labels, as Prometheus's own parser reads them."""
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(observer.exposition().decode())
        for one in family.samples
    }


def value(found: Values, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_prometheus_reads_what_was_counted() -> None:
    observer = Observer(["desk"], PRICED)
    observer.finished(event(latency=0.3, ttft=0.05, completion_tokens=6, guards=("empty",)))
    observer.finished(event(status=502, error="engine_error", route="remote", ttft=None))
    observer.finished(event(api="completions", context="pruned", cost=0.5, route="remote"))
    found = values(observer)
    of = {"gen_ai_request_model": "desk", "gen_ai_operation_name": "chat"}
    duration = "gen_ai_server_request_duration_seconds"
    assert value(found, f"{duration}_bucket", error_type="", le="0.16", **of) == 0
    assert value(found, f"{duration}_bucket", error_type="", le="0.32", **of) == 1
    assert value(found, f"{duration}_count", error_type="engine_error", **of) == 1
    assert value(found, "gen_ai_server_time_to_first_token_seconds_sum", **of) == 0.05
    assert value(found, "gen_ai_server_time_per_output_token_seconds_sum", **of) == 0.05
    used = {**of, "gen_ai_token_type": "output"}
    assert value(found, "gen_ai_client_token_usage_sum", **used) == 15
    text = {**of, "gen_ai_operation_name": "text_completion", "gen_ai_token_type": "input"}
    assert value(found, "gen_ai_client_token_usage_sum", **text) == 50
    model = {"gen_ai_request_model": "desk"}
    ended = {**model, "outcome": "failed", "route": "remote"}
    assert value(found, "residency_requests_total", **ended) == 1
    assert value(found, "residency_guard_events_total", event="empty") == 1
    assert value(found, "residency_context_events_total", event="pruned") == 1
    assert value(found, "residency_cost_total", **model) == 0.5
    assert value(found, "residency_saved_total", **model) == (50 * 1 + 6 * 3) / 1e6


def test_prometheus_reads_what_was_seen() -> None:
    observer = Observer(["desk"], PRICED)
    before = values(observer)
    assert value(before, "process_resident_memory_bytes") > 0
    assert not any(name.startswith("residency_engine") for name, _ in before)
    observer.look(SAMPLE)
    found = values(observer)
    desk = {"gen_ai_request_model": "desk", "build": "r1"}
    other = {"gen_ai_request_model": "other-desk", "build": "r2"}
    assert value(found, "residency_engine_up", **desk) == 1
    assert value(found, "residency_engine_up", **other) == 0
    assert value(found, "residency_engine_memory_bytes", **desk) == 900
    assert value(found, "residency_engine_cpu_seconds_total", **desk) == 2.5
    assert value(found, "residency_engine_restarts_total", **desk) == 1
    assert value(found, "residency_engine_slots", **desk) == 4
    assert value(found, "residency_engine_slots_busy", **desk) == 1
    assert value(found, "residency_engine_kv_cache_ratio", **desk) == 0.25
    assert ("residency_engine_slots", frozenset(other.items())) not in found  # it is unknown
    assert value(found, "residency_gpu_memory_used_bytes", gpu="0") == 5
    assert value(found, "residency_budget_limit", gen_ai_request_model="big") == 10
    assert value(found, "residency_requests_at_work") == 3
    assert value(found, "residency_disk_free_bytes") == 40


def test_labels_are_bounded_whatever_clients_send() -> None:
    observer = Observer(["desk"], WatchSettings())
    for number in range(500):
        observer.finished(event(model=f"made-up-{number}", status=404, error=f"e{number}"))
    found = values(observer)
    models = {dict(labels).get("gen_ai_request_model") for _, labels in found}
    assert models - {None} == {"other"}
    codes = {dict(labels).get("error_type") for _, labels in found}
    assert len(codes - {None}) == CODES + 1


def test_the_snapshot_has_it_all() -> None:
    observer = Observer(["desk"], WatchSettings())
    observer.finished(event())
    observer.finished(event(model="made-up", status=404, error="model_not_found"))
    early = observer.snapshot()
    assert early["gateway"] is None and early["engines"] == [] and early["priced"] is False
    observer.look(SAMPLE)
    told = observer.snapshot()
    assert set(told["windows"]) == {"1m", "5m", "1h", "24h"}
    assert told["windows"]["24h"]["requests"] == 2
    assert told["models"]["desk"]["1m"]["latency"]["p95"] > 0
    assert told["models"]["other"]["1m"]["errors"] == {"model_not_found": 1}
    assert told["engines"][0]["busy"] == 1
    assert told["gateway"]["budgets"] == {"big": {"spent": 1.5, "limit": 10.0}}
    assert told["gateway"]["gpus"][0]["busy"] == 0.5
    assert told["alerts"] == []
