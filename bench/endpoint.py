"""The endpoint as benches need it: the real process on a workspace of its own, all policies on.

`endpoint` starts it; `python bench/endpoint.py FOLDER JSON` is its process, which says on stdout
where it listens, and where its engine does, which others may ask as well.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from residency import releases
from residency.config import DataSettings, EngineSettings, ServedModel, ServeSettings, Settings
from residency.engines.base import Engine
from residency.serve import keys, looking, run
from residency.serve.asked import Caller
from residency.serve.fleet import Fleet
from residency.serve.gateway import Gateway
from residency.serve.keys import KeyRing
from residency.serve.launch import launcher
from residency.store import Store
from residency.types import Build, Release, Verdict
from residency.watch.notify import Notifier

MODEL = "bench"
POLICIES = {"keys": True, "record": "masked", "queue": 64}
"""Of section [serve]; what is not named here is on as it is by default."""
SERVED = ServedModel(context="prune", banned=["internal use only"], ttft_timeout=60.0)
# Limits that are kept count of, and never reached.
CALLER = Caller(name="bench", requests=10**9, tokens=10**12, budget=10.0**9)


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """An endpoint and its engine; URLs without `/v1`. `pid` is the endpoint's own process."""

    url: str
    key: str
    pid: int
    engine_url: str
    engine_key: str


@contextmanager
def endpoint(gguf: Path, engine: dict[str, Any], serve: dict[str, Any]) -> Iterator[Running]:
    """The endpoint with `gguf` as its release; `engine` and `serve` are settings of these sections,
    `serve` over `POLICIES`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key = _workspace(folder, gguf, int(engine.get("context", 2048)))
        given = json.dumps({"engine": engine, "serve": {"port": 0, **POLICIES, **serve}})
        command = [sys.executable, __file__, str(folder), given]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            if not said:
                raise SystemExit("the endpoint did not start")
            yield Running(key=key, pid=process.pid, **json.loads(said))
        finally:
            process.terminate()
            process.wait()


def _workspace(folder: Path, gguf: Path, context: int) -> str:
    """A workspace with one release, whose model is linked, and one key, which is returned."""
    store = Store(folder)
    build = Build(
        name=MODEL,
        format="gguf",
        file=gguf.name,
        size=gguf.stat().st_size,
        digest="",
        template_digest="",
        stop_tokens=(),
        fingerprint="",
    )
    place = store.root / "objects" / MODEL
    place.mkdir(parents=True)
    (place / build.file).symlink_to(gguf.resolve())
    release = Release(
        name="r1",
        model=MODEL,
        base=gguf.stem,
        build=build,
        artifact=MODEL,
        system="",
        max_tokens=256,
        context=context,
        verdict=Verdict(build=MODEL, passed=True, rule="", figures={}),
        gate_key="",
        created="2026-01-01T00:00:00Z",
    )
    releases.write(store, release)
    return KeyRing(store.root / keys.FILE_NAME).add(CALLER, expires=None, now=0.0)


def main() -> None:
    """As `run.serve`, but for the engine, which it tells of."""
    folder, given = Path(sys.argv[1]), json.loads(sys.argv[2])
    settings = Settings(
        name=MODEL,
        data=DataSettings(file="none.jsonl"),
        engine=EngineSettings(**given["engine"]),
        serve=ServeSettings(**given["serve"], models={MODEL: SERVED}),
    )
    store, models = Store(folder), settings.serve.models
    launch = launcher(store, settings.engine)
    engines: list[Engine] = []

    def remembered(served: ServedModel, release: Release, slots: int) -> Engine:
        engines.append(launch(served, release, slots))
        return engines[-1]

    def ready(url: str) -> None:
        engine = next(one for one in engines if one.alive())
        where = {"url": url, "engine_url": engine.url, "engine_key": engine.key}
        print(json.dumps(where), flush=True)

    with (
        run.listen(settings.serve.host, settings.serve.port) as sock,
        run.kept(store.root, settings.serve, models, settings.traffic) as books,
    ):
        fleet = Fleet(store, models, settings.serve, remembered, slots=settings.engine.slots)
        gateway = Gateway(settings.serve, models, fleet, books)
        watch = functools.partial(
            looking.watch, gateway, folder, Notifier(settings.watch, folder, MODEL)
        )
        uvloop.run(run._run(gateway, watch, sock, ready))


if __name__ == "__main__":
    main()
