"""Traces and metrics to an OpenTelemetry collector, by OTLP over HTTP; the extra `otlp`.

Each request is a span, made when it is over. Names are those of OpenTelemetry's GenAI conventions;
no words of a request or an answer go along. What the exporters read from the environment holds
(`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_RESOURCE_ATTRIBUTES` and others).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import residency
from residency.errors import MissingError
from residency.watch.finished import Finished
from residency.watch.metrics import FIRST_TOKEN, PER_TOKEN, SECONDS, TOKENS, operation

METRICS_MILLISECONDS = 10_000
"""Between two exports of metrics."""
TIMEOUT = 2.0
"""Seconds in which a batch has to be taken, further tries included: so long the end may wait."""
_NANO = 1_000_000_000
_PROVIDER = {"gen_ai.provider.name": "residency"}


class Exporter:
    """Sends what it is called with to the collector at `url`, from threads of its own, for the
    specialist `name`; `named` bounds the names of models. What a collector that is away cannot
    take is dropped after a while.

    Raises `MissingError` where the extra is not installed.
    """

    def __init__(self, url: str, name: str, named: Callable[[str], str]) -> None:
        if not importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http"):
            raise MissingError(
                "watch.otlp is set, and OpenTelemetry is not installed",
                hint="install it with: pip install 'residency[otlp]'",
            )
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        base = url.rstrip("/")
        resource = Resource.create(
            {"service.name": name, "service.namespace": "residency",
             "service.version": residency.__version__}
        )  # fmt: skip
        self._named = named
        self._tracing = TracerProvider(resource=resource)
        self._tracing.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{base}/v1/traces", timeout=TIMEOUT))
        )
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(endpoint=f"{base}/v1/metrics", timeout=TIMEOUT), METRICS_MILLISECONDS
        )
        self._metering = MeterProvider(resource=resource, metric_readers=[reader])
        self._tracer = self._tracing.get_tracer("residency")
        self._histograms = {
            name: self._metering.get_meter("residency").create_histogram(
                name, unit=unit, explicit_bucket_boundaries_advisory=bounds
            )
            for name, unit, bounds in (
                ("gen_ai.server.request.duration", "s", SECONDS),
                ("gen_ai.server.time_to_first_token", "s", FIRST_TOKEN),
                ("gen_ai.server.time_per_output_token", "s", PER_TOKEN),
                ("gen_ai.client.token.usage", "{token}", TOKENS),
            )
        }

    def __call__(self, event: Finished) -> None:
        """Take a finished request; never waits."""
        known = {
            "gen_ai.operation.name": operation(event.api),
            "gen_ai.request.model": self._named(event.model),
            **_PROVIDER,
        }
        failed = {"error.type": event.error} if event.error else {}
        self._record("gen_ai.server.request.duration", event.latency, {**known, **failed})
        if event.answered and event.ttft is not None:
            self._record("gen_ai.server.time_to_first_token", event.ttft, known)
            if event.per_token is not None:
                self._record("gen_ai.server.time_per_output_token", event.per_token, known)
        for kind, tokens in (("input", event.prompt_tokens), ("output", event.completion_tokens)):
            if tokens:
                more = {**known, "gen_ai.token.type": kind}
                self._record("gen_ai.client.token.usage", tokens, more)
        self._span(event, {**known, **failed})

    def _record(self, name: str, value: float, attributes: dict[str, str]) -> None:
        self._histograms[name].record(value, attributes)

    def _span(self, event: Finished, known: dict[str, Any]) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode

        end = int(event.time * _NANO)
        start = end - int(event.latency * _NANO)
        span = self._tracer.start_span(
            f"{known['gen_ai.operation.name']} {known['gen_ai.request.model']}",
            kind=SpanKind.SERVER,
            start_time=start,
            attributes={
                **known,
                "gen_ai.response.model": event.build,
                "gen_ai.usage.input_tokens": event.prompt_tokens,
                "gen_ai.usage.output_tokens": event.completion_tokens,
                "http.response.status_code": event.status,
                "residency.request.id": event.id,
                "residency.route": event.route,
                "residency.queued": event.queued,
                "residency.guards": event.guards,
            },
        )
        if event.ttft is not None:
            span.add_event("first token", timestamp=start + int(event.ttft * _NANO))
        if event.failed:
            span.set_status(Status(StatusCode.ERROR, event.error))
        span.end(end)

    def close(self) -> None:
        """Send what waits, and end the threads; blocks for some seconds at the most."""
        self._tracing.shutdown()
        self._metering.shutdown()
