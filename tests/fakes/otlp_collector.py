"""A stand-in for an OpenTelemetry collector: takes OTLP over HTTP and says what it got.

    python -m tests.fakes.otlp_collector

prints its port, and then a line of JSON for each span (`{"span": ...}`) and each data point
(`{"metric": ...}`) that it decodes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def plain(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values()), None) for one in attributes}


def spans(body: bytes) -> Iterator[dict[str, Any]]:
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    for resource in MessageToDict(request)["resourceSpans"]:
        about = plain(resource["resource"]["attributes"])
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                known = {**span, "attributes": plain(span["attributes"]), "resource": about}
                yield {"span": known}


def points(body: bytes) -> Iterator[dict[str, Any]]:
    request = ExportMetricsServiceRequest()
    request.ParseFromString(body)
    for resource in MessageToDict(request)["resourceMetrics"]:
        for scope in resource["scopeMetrics"]:
            for metric in scope["metrics"]:
                for point in metric.get("histogram", {}).get("dataPoints", []):
                    known = {**point, "attributes": plain(point["attributes"])}
                    yield {"metric": {"name": metric["name"], "unit": metric.get("unit"), **known}}


class Collector(BaseHTTPRequestHandler):
    """Decodes what is sent to OTLP's two paths."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        read = {"/v1/traces": spans, "/v1/metrics": points}.get(self.path)
        if read is None or self.headers["content-type"] != "application/x-protobuf":
            self.send_error(404)
            return
        for one in read(body):
            print(json.dumps(one), flush=True)
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
