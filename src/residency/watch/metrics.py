"""What Prometheus reads: names of OpenTelemetry's GenAI conventions, and `residency_*` beside them.

The boundaries of the histograms are those that the conventions suggest, and for the time of a
token three below them: those of a small model would all fall into the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from residency.watch.finished import Finished
from residency.watch.histogram import Histogram
from residency.watch.samples import Sample
from residency.watch.windows import CODES, OTHER

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5,
               10.0)  # fmt: skip
PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75,
             1.0, 2.5)  # fmt: skip
TOKENS = tuple(4**power for power in range(14))
OPERATIONS = {"completions": "text_completion", "embeddings": "embeddings"}
"""OpenTelemetry's names for what our APIs do; the others chat."""
_OPERATION, _MODEL = "gen_ai_operation_name", "gen_ai_request_model"


def operation(api: str) -> str:
    return OPERATIONS.get(api, "chat")


def outcome(event: Finished) -> str:
    """How it ended: answered, refused (the client's fault), left (by the client), or failed."""
    if event.answered:
        return "answered"
    if event.failed:
        return "failed"
    return "left" if event.status == 499 else "refused"


class Metrics:
    """Counts requests in a registry of its own; `sample` gives what was last seen of engines and
    machine. Labels are bounded: models by `name`, and codes by their number."""

    def __init__(self, name: Callable[[str], str], sample: Callable[[], Sample | None]) -> None:
        self.registry = CollectorRegistry()
        self._name = name
        self._codes: set[str] = set()
        self._children: dict[tuple[Counter, tuple[str, ...]], Counter] = {}
        both = (_OPERATION, _MODEL)

        def histogram(metric: str, words: str, labels: tuple[str, ...],
                      bounds: tuple[float, ...]) -> Histogram:  # fmt: skip
            return Histogram(metric, words, labels, bounds, self.registry)

        def counter(metric: str, words: str, labels: tuple[str, ...]) -> Counter:
            return Counter(metric, words, labels, registry=self.registry)

        self._duration = histogram(
            "gen_ai_server_request_duration_seconds", "From the request to the end of its answer.",
            (*both, "error_type"), SECONDS,
        )  # fmt: skip
        self._first = histogram(
            "gen_ai_server_time_to_first_token_seconds", "Of answers.", both, FIRST_TOKEN
        )
        self._per_token = histogram(
            "gen_ai_server_time_per_output_token_seconds", "Of each token after the first.", both,
            PER_TOKEN,
        )  # fmt: skip
        self._tokens = histogram(
            "gen_ai_client_token_usage", "Tokens of prompts and of answers.",
            (*both, "gen_ai_token_type"), TOKENS,
        )  # fmt: skip
        self._queued = histogram(
            "residency_queue_seconds", "Waited for a turn at the model.", (_MODEL,), FIRST_TOKEN
        )
        self._requests = counter(
            "residency_requests", "Requests by where they went and how they ended.",
            (_MODEL, "route", "outcome"),
        )  # fmt: skip
        self._guards = counter("residency_guard_events", "What the guards found.", ("event",))
        self._context = counter(
            "residency_context_events", "Conversations that were made to fit.", ("event",)
        )
        self._cost = counter("residency_cost", "Money that APIs elsewhere cost.", (_MODEL,))
        self._saved = counter(
            "residency_saved", "Money that local answers would have cost at the API.", (_MODEL,)
        )
        ProcessCollector(registry=self.registry)
        self.registry.register(_Sampled(sample))

    def add(self, event: Finished, saved: float) -> None:
        """Count a request."""
        model, what = self._name(event.model), operation(event.api)
        error = self._code(event.error)
        self._duration.observe(event.latency, what, model, error)
        self._of(self._requests, model, event.route, outcome(event)).inc()
        self._queued.observe(event.queued, model)
        if event.prompt_tokens:
            self._tokens.observe(event.prompt_tokens, what, model, "input")
        if event.completion_tokens:
            self._tokens.observe(event.completion_tokens, what, model, "output")
        if event.answered and event.ttft is not None:
            self._first.observe(event.ttft, what, model)
            if (seconds := event.per_token) is not None:
                self._per_token.observe(max(0.0, seconds), what, model)
        for guard in event.guards:
            self._of(self._guards, self._code(guard)).inc()
        if event.context:
            self._of(self._context, event.context).inc()
        if event.cost:
            self._of(self._cost, model).inc(event.cost)
        if saved:
            self._of(self._saved, model).inc(saved)

    def exposition(self) -> bytes:
        """All of it in Prometheus's text form; its media type is `CONTENT_TYPE`."""
        return generate_latest(self.registry)

    def _of(self, metric: Counter, *labels: str) -> Counter:
        """The child of `metric` with these labels; `labels()` takes ten times as long."""
        if (metric, labels) not in self._children:
            self._children[metric, labels] = metric.labels(*labels)
        return self._children[metric, labels]

    def _code(self, code: str) -> str:
        if code in self._codes or not code:
            return code
        if len(self._codes) >= CODES:
            return OTHER
        self._codes.add(code)
        return code


_ENGINE_GAUGES = {
    "memory_bytes": ("Resident memory, the mapped weights included.", "memory"),
    "slots": ("Requests that it works on at a time.", "slots"),
    "slots_busy": ("Slots at work.", "busy"),
    "kv_cache_ratio": ("Share of the key-value cache that holds tokens.", "cache"),
}


class _Sampled(Collector):
    """What was last seen of engines and machine, as gauges."""

    def __init__(self, sample: Callable[[], Sample | None]) -> None:
        self._sample = sample

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        seen = self._sample()
        if seen is None:
            return
        for name, words, value in (
            ("residency_requests_at_work", "Requests that are being answered.", seen.at_work),
            ("residency_exchanges_waiting", "Exchanges not yet in the store.", seen.waiting),
            ("residency_disk_free_bytes", "Room where the workspace is.", seen.disk_free),
            ("residency_disk_total_bytes", "Size of the disk of the workspace.", seen.disk_total),
        ):
            yield GaugeMetricFamily(name, words, value=value)
        yield from _of_engines(seen)
        yield from _of_gpus(seen)
        spent = GaugeMetricFamily("residency_budget_spent", "This month's.", labels=[_MODEL])
        limit = GaugeMetricFamily("residency_budget_limit", "For a month.", labels=[_MODEL])
        for model, budget in seen.budgets.items():
            spent.add_metric([model], budget.spent)
            limit.add_metric([model], budget.limit)
        yield from (spent, limit)


def _of_engines(seen: Sample) -> Iterator[Metric]:
    labels = [_MODEL, "build"]
    up = GaugeMetricFamily("residency_engine_up", "Whether it can be asked.", labels=labels)
    cpu = CounterMetricFamily("residency_engine_cpu_seconds", "Processor time.", labels=labels)
    restarts = CounterMetricFamily("residency_engine_restarts", "Since its start.", labels=labels)
    for one in seen.engines:
        up.add_metric([one.model, one.build], not one.down)
        cpu.add_metric([one.model, one.build], one.cpu)
        restarts.add_metric([one.model, one.build], one.restarts)
    yield from (up, cpu, restarts)
    for name, (words, attribute) in _ENGINE_GAUGES.items():
        gauge = GaugeMetricFamily(f"residency_engine_{name}", words, labels=labels)
        for one in seen.engines:
            if (value := getattr(one, attribute)) is not None:
                gauge.add_metric([one.model, one.build], value)
        yield gauge


def _of_gpus(seen: Sample) -> Iterator[Metric]:
    used = GaugeMetricFamily("residency_gpu_memory_used_bytes", "Of a GPU.", labels=["gpu"])
    total = GaugeMetricFamily("residency_gpu_memory_bytes", "A GPU has.", labels=["gpu"])
    busy = GaugeMetricFamily("residency_gpu_busy_ratio", "Share of time at work.", labels=["gpu"])
    for one in seen.gpus:
        used.add_metric([one.name], one.used)
        total.add_metric([one.name], one.total)
        busy.add_metric([one.name], one.busy)
    yield from (used, total, busy)
