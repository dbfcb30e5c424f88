"""The watch on a gateway that serves: who may see it, what it sees, and alerts of real causes."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from residency.config import ServedModel, ServeSettings, WatchSettings
from residency.serve import keys
from residency.serve.asked import Caller
from residency.serve.keys import KeyRing
from residency.store import Store
from residency.traffic.store import FILE_NAME as TRAFFIC
from residency.traffic.store import TrafficStore
from residency.watch import notify, samples
from residency.watch.observer import Observer
from residency.watch.samples import Sample
from tests.fakes.engine import FakeEngine
from tests.serve import processes
from tests.serve.conftest import Served
from tests.serve.processes import MODEL, Process, engine_of, official, url_of

Serving = Callable[..., Served]


def get(url: str, path: str, key: str = "") -> Any:
    request = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        body = response.read().decode()
    return body if path == "/metrics" else json.loads(body)


def until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
    return found


def test_what_was_served_is_told(serving: Serving) -> None:
    served = serving()
    served.ask("one two three four", temperature=0.5)
    for chunk in served.ask(stream=True):
        assert chunk
    with pytest.raises(openai.BadRequestError):
        served.ask(temperature="hot")
    with pytest.raises(openai.NotFoundError):
        served.ask(model="made-up")
    told = get(served.url, "/v1/residency/watch")
    figures = told["models"]["echo"]["1m"]
    assert (figures["requests"], figures["answered"], figures["share_local"]) == (2, 2, 1.0)
    assert figures["completion_tokens"] == 7
    assert 0 < figures["ttft"]["p50"] <= figures["latency"]["p50"]
    assert told["windows"]["1m"]["requests"] == 4
    assert told["windows"]["1m"]["error_rate"] == 0.0
    assert set(told["models"]["other"]["1m"]["errors"]) == {"model_not_found", "invalid_value"}
    text = get(served.url, "/metrics")
    found = {
        (one.name, *sorted(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }
    name = "residency_requests_total"
    ended = (("gen_ai_request_model", "echo"), ("outcome", "answered"), ("route", "local"))
    assert found[name, *ended] == 2


def test_the_first_token_of_a_plain_answer_is_told_too(serving: Serving) -> None:
    """It came from the engine long before the answer was whole."""
    served = serving("crawl")
    served.ask("one two three")
    figures = get(served.url, "/v1/residency/watch")["windows"]["1m"]
    assert figures["ttft"]["p50"] < figures["latency"]["p50"] - 0.9
    assert figures["per_token"]["p50"] == pytest.approx(0.5, rel=0.2)


def test_percentiles_are_those_of_the_record(serving: Serving) -> None:
    """Of a load whose answers take from 50 ms to half a second, against the exchanges' own."""
    served = serving("slow")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: served.ask(" ".join(["word"] * (1 + n % 8))), range(60)))
    figures = get(served.url, "/v1/residency/watch")["windows"]["5m"]
    store = TrafficStore(Store(served.folder).root / TRAFFIC)
    kept = until(lambda: len(e := list(store.between(0, time.time()))) == 60 and e)
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        for field in ("latency", "ttft"):
            exact = sorted(getattr(one, field) for one in kept)[int(share * 59)]
            # 1% is the sketch's; the two read their clocks some microseconds apart.
            assert figures[field][name] == pytest.approx(exact, rel=0.01, abs=0.002)


def test_a_key_for_some_models_sees_no_figures_of_all(serving: Serving) -> None:
    served = serving(settings=ServeSettings(keys=True))
    ring, now = KeyRing(Store(served.folder).root / keys.FILE_NAME), time.time()
    bound = ring.add(Caller(name="kim", models=frozenset({"echo"})), expires=None, now=now)
    free = ring.add(Caller(name="prometheus"), expires=None, now=now)
    for path in ("/metrics", "/v1/residency/watch"):
        assert get(served.url, path, free)
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(served.url, path, bound)
        assert refused.value.code == 403


class Hook(HTTPServer):
    """Keeps what a webhook is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.got: list[dict[str, Any]] = []


class _Take(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got += json.loads(body)["changes"]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


QUICK = {"every": 0.1, "after": 0.2, "keep": 0.5}


def test_alerts_of_real_causes(
    fake: FakeEngine, tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API that fails, one that is slow, and one that spends: told by webhook, and in the
    workspace's file; of the one that is well nothing is told."""
    monkeypatch.setenv("FAKE_KEY", fake.key)
    monkeypatch.setenv("RESIDENCY_WEBHOOK_SECRET", "hush")

    def api(behaviour: str, **more: Any) -> dict[str, Any]:
        return {"url": f"{fake.url}/v1", "model": behaviour, "key_variable": "FAKE_KEY", **more}

    models = {
        "well": api("echo"),
        "failing": api("500"),
        "late": api("slow"),
        # It breaks off without having counted: all that it might have cost is spent.
        "paid": api("end-early", price_in=1000.0, budget=0.06),
    }
    watch = {**QUICK, "p95": 0.15, "webhook": f"http://127.0.0.1:{hook.server_address[1]}/"}
    folder, nothing = tmp_path / "desk", tmp_path / "none"
    with processes.serving(folder, nothing, watch=watch, models=models) as process:
        url = url_of(process)
        with official(url) as client, ThreadPoolExecutor(8) as pool:

            def ask(model: str) -> None:
                said: Any = [{"role": "user", "content": "one two three four five"}]
                try:
                    client.chat.completions.create(model=model, messages=said, max_tokens=9)
                except openai.APIStatusError:
                    assert model in ("failing", "paid")

            list(pool.map(ask, ["well", "failing", "late"] * 30 + ["paid"]))
        wanted = {("errors", "failing"), ("slow", "late"), ("budget", "paid")}

        def alerts() -> Any:
            told = get(url, "/v1/residency/watch")
            found = {(one["rule"], one["where"]): one for one in told["alerts"]}
            return (found, told["gateway"]) if found.keys() == wanted else None

        found, gateway = until(alerts)
        # A page is told at once, what is no page after half a minute.
        until(lambda: ("errors", "failing") in {(one["rule"], one["where"]) for one in hook.got})
        assert get(url, "/metrics").count("residency_budget_spent{") == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert found["errors", "failing"]["severity"] == "page"
    assert "of 30 requests" in found["errors", "failing"]["words"]
    assert gateway["memory"] > 0 and gateway["disk_total"] > 0
    kept = (folder / ".residency" / notify.FILE_NAME).read_text().splitlines()
    assert {(one["rule"], one["where"]) for one in map(json.loads, kept)} == wanted


def test_an_engine_that_dies_is_an_alert_that_passes(start: Callable[..., Process]) -> None:
    process = start(watch={**QUICK, "after": 0.0})
    url = url_of(process)
    with official(url) as client:
        said: Any = [{"role": "user", "content": "hi"}]
        client.chat.completions.create(model=MODEL, messages=said, max_tokens=4)

    def idle() -> Any:
        seen = get(url, "/v1/residency/watch")["engines"]
        return [one for one in seen if one["busy"] == 0 and one["cache"]]

    (engine,) = until(idle)
    assert engine["slots"] == 2
    assert engine["memory"] > 50_000_000 and engine["cpu"] > 0
    assert 0 < engine["cache"] < 1
    os.kill(engine_of(process).pid, signal.SIGKILL)
    (alert,) = until(lambda: get(url, "/v1/residency/watch")["alerts"])
    assert (alert["rule"], alert["severity"]) == ("down", "page")
    assert "SIGKILL" in alert["words"]
    until(lambda: not get(url, "/v1/residency/watch")["alerts"])
    (engine,) = get(url, "/v1/residency/watch")["engines"]
    assert engine["restarts"] == 1 and not engine["down"]


def test_slower_than_usual(
    serving: Serving, fake: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an hour of a quick API by a clock that is turned on between real requests, and then a
    slow one under the same name: the answers and their tokens take more than twice the usual."""
    monkeypatch.setenv("FAKE_KEY", fake.key)
    clock = [0.0]
    observer = Observer(["desk"], WatchSettings(after=0.0), lambda: clock[0])

    def gateway(behaviour: str) -> Served:
        api = ServedModel(url=f"{fake.url}/v1", model=behaviour, key_variable="FAKE_KEY")
        served = serving(settings=ServeSettings(models={"desk": api}))
        served.gateway.observer = observer
        return served

    def ask(served: Served, at_once: int) -> None:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda _: served.ask("one two three four five"), range(50)))

    def look() -> set[str]:
        free, total = samples.disk_use(tmp_path)
        seen = Sample(time=clock[0], memory=1, cpu=0.0, disk_free=free, disk_total=total)
        return {one.alert.finding.rule for one in observer.look(seen)}

    quick = gateway("echo")
    for _ in range(7):
        ask(quick, 4)
        assert look() == set()
        clock[0] += 360
    ask(gateway("crawl"), 50)
    assert look() == {"slower", "speed"}
