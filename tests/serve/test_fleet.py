"""Several engines behind one endpoint: real processes, most of them the fake engine's."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from residency import releases
from residency.config import EngineSettings, ServedModel, ServeSettings
from residency.errors import EngineError, EngineLoadError, EngineRejected, EngineUnavailable
from residency.serve.fleet import Fleet
from residency.serve.launch import launcher
from residency.store import Store, sha256_file
from residency.types import Build, Release
from tests.engines.processes import gone
from tests.fakes.engine import FakeEngine
from tests.serve.releases import release

SIX = "one two three four five six"


class Launches:
    """Fake engines: a release behaves as its `base` says; `broken` cannot be loaded."""

    def __init__(self) -> None:
        self.made: list[FakeEngine] = []
        self.quiet: list[FakeEngine] = []

    def __call__(self, _: ServedModel, wanted: Release, slots: int) -> FakeEngine:
        engine = FakeEngine(wanted.base, fails=1 if wanted.base == "broken" else 0)
        (self.quiet if slots == 1 else self.made).append(engine)
        return engine


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path)
    for number, behaviour in enumerate(("slow", "echo", "broken", "500", "r1")):
        made = f"2026-11-24T06:00:0{number}Z"
        name = f"r{number}"
        releases.write(found, release(name=name, base=behaviour, model="desk", created=made))
    releases.promote(found, "r0")
    return found


@asynccontextmanager
async def running(
    store: Store, launches: Launches, models: dict[str, ServedModel] | None = None
) -> AsyncIterator[Fleet]:
    served = models or {"desk": ServedModel()}
    fleet = Fleet(store, served, ServeSettings(), launches, slots=3)
    try:
        await fleet.start()
        yield fleet
    finally:
        await fleet.stop()
    assert all(engine.pid == 0 for engine in (*launches.made, *launches.quiet))


async def ask(fleet: Fleet, text: str = "a b", model: str = "desk") -> str:
    async with fleet.lease(model) as station:
        body = {"model": "", "messages": [{"role": "user", "content": text}]}
        pieces = []
        async with aclosing(station.client.chat_stream(body)) as chunks:
            async for chunk in chunks:
                pieces += [c["delta"].get("content") or "" for c in chunk["choices"]]
    return "".join(pieces)


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not fact():
            await asyncio.sleep(0.02)


def test_models_answer_beside_each_other_an_api_among_them(store: Store) -> None:
    async def run() -> None:
        with FakeEngine() as api:
            os.environ["FAKE_KEY"] = api.key
            elsewhere = ServedModel(url=api.url, model="echo", key_variable="FAKE_KEY")
            both = {"desk": ServedModel(), "old": ServedModel(release="r1"), "far": elsewhere}
            async with running(store, Launches(), both) as fleet:
                answers = await asyncio.gather(*(ask(fleet, "a b", name) for name in both))
                assert answers == ["a b"] * 3
                assert (fleet.slots("desk"), fleet.slots("far")) == (3, 0)
                old = fleet.release("old")
                assert old and old.name == "r1"
                assert fleet.release("far") is None
                assert fleet.down() == await fleet.unwell() == {}
                async with fleet.lease("far") as station:
                    assert (station.build, station.window) == ("echo", None)
                    assert station.guarantee.words.startswith("none")

    asyncio.run(run())


def test_a_swap_fails_no_request(store: Store) -> None:
    async def run() -> None:
        launches = Launches()
        async with running(store, launches) as fleet:
            before = [asyncio.create_task(ask(fleet, SIX)) for _ in range(8)]
            await asyncio.sleep(0)
            old, pid = launches.made[0], launches.made[0].pid
            await fleet.swap("desk", releases.read(store, "r1"))
            during = [asyncio.create_task(ask(fleet, SIX)) for _ in range(8)]
            assert old.alive()
            assert await asyncio.gather(*before, *during) == [SIX] * 16
            now = fleet.release("desk")
            assert now and now.name == "r1"
            await until(lambda: gone(pid))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "error"), [("r2", EngineLoadError), ("r3", EngineRejected)], ids=["load", "question"]
)
def test_what_cannot_be_loaded_or_asked_leaves_the_old_one_serving(
    store: Store, name: str, error: type[EngineError]
) -> None:
    async def run() -> None:
        launches = Launches()
        async with running(store, launches) as fleet:
            with pytest.raises(error):
                await fleet.swap("desk", releases.read(store, name))
            assert launches.made[1].pid == 0
            assert await ask(fleet) == "a b"
            serving = fleet.release("desk")
            assert serving and serving.name == "r0"

    asyncio.run(run())


def test_follows_promote_and_rollback_and_tells_of_a_refusal_once(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run() -> None:
        launches = Launches()
        pinned = {"desk": ServedModel(), "old": ServedModel(release="r1")}

        def serving(model: str = "desk") -> str:
            found = fleet.release(model)
            return found.name if found else ""

        async with running(store, launches, pinned) as fleet:
            releases.promote(store, "r1")
            await until(lambda: serving() == "r1")
            releases.promote(store, "r2")
            await until(lambda: bool(fleet.refused()))
            assert fleet.refused() == {
                "desk": "r2 was not taken up, r1 serves on: fake.gguf: cannot be loaded"
            }
            made = len(launches.made)
            await asyncio.sleep(1.5)
            assert len(launches.made) == made
            assert fleet.down() == {}
            releases.promote(store, "r0")
            await until(lambda: serving() == "r0")
            assert (serving("old"), fleet.refused()) == ("r1", {})

    asyncio.run(run())
    assert capsys.readouterr().err.splitlines() == [
        "desk: r1 serves in place of r0",
        "desk: r2 was not taken up, r1 serves on: fake.gguf: cannot be loaded",
        "desk: r0 serves in place of r1",
    ]


def test_a_crashed_engine_recovers_for_those_who_wait(store: Store) -> None:
    async def run() -> None:
        launches = Launches()
        async with running(store, launches) as fleet:
            os.kill(launches.made[0].pid, signal.SIGKILL)
            with pytest.raises(EngineUnavailable):
                await ask(fleet)
            await fleet.recovered("desk")
            assert await ask(fleet) == "a b"
            launches.made[0].fails = 99
            os.kill(launches.made[0].pid, signal.SIGKILL)
            with pytest.raises(EngineUnavailable, match="cannot be loaded"):
                await fleet.recovered("desk", 2)
            assert "starts again" in fleet.down()["desk"]

    asyncio.run(run())


def test_deterministic_requests_have_an_engine_of_one_slot_when_they_come(store: Store) -> None:
    async def run() -> None:
        launches = Launches()
        async with running(store, launches) as fleet:
            (quiet,) = launches.quiet
            assert quiet.starts == 0

            async def client() -> object:
                async with fleet.lease("desk", deterministic=True) as station:
                    assert station.guarantee.fields == {"cache_prompt": False}
                    return station.client

            first, second = await asyncio.gather(client(), client())
            async with fleet.lease("desk") as station:
                assert station.client is not first is second
            assert quiet.starts == 1
            os.kill(quiet.pid, signal.SIGKILL)
            assert await client() is not first
            old = quiet.pid
            await fleet.swap("desk", releases.read(store, "r1"))
            await until(lambda: gone(old))

    asyncio.run(run())


def test_an_engine_that_outgrows_its_memory_is_replaced(store: Store) -> None:
    class Growing(FakeEngine):
        size = 100_000_000

        def memory(self) -> int:
            return self.size if self.alive() else 0

    async def run() -> None:
        made: list[Growing] = []

        def launch(_: ServedModel, __: Release, slots: int) -> Growing:
            engine = Growing()
            if slots == 3:
                made.append(engine)
            return engine

        fleet = Fleet(store, {"desk": ServedModel()}, ServeSettings(memory=300), launch, slots=3)
        try:
            await fleet.start()
            loop = asyncio.get_running_loop()
            deployed = fleet._deployed["desk"]
            deployed.memory = deployed.memory.read(Growing.size, loop.time(), 0)
            deployed.memory = type(deployed.memory)(since=-100.0, first=deployed.memory.first)
            made[0].size = 400_000_000
            await until(lambda: len(made) == 2 and not made[0].alive())
            assert await ask(fleet) == "a b"
        finally:
            await fleet.stop()

    asyncio.run(run())


def test_before_it_is_loaded_a_model_is_down(store: Store) -> None:
    async def run() -> None:
        fleet = Fleet(store, {"desk": ServedModel()}, ServeSettings(), Launches(), slots=1)
        assert fleet.down() == {"desk": "it is being loaded"}
        with pytest.raises(EngineUnavailable, match="desk is not ready"):
            await ask(fleet)
        await fleet.stop()

    asyncio.run(run())


def build(model: Path) -> Build:
    return dataclasses.replace(release().build, digest=sha256_file(model))


def test_a_real_engine_with_the_wrong_digest_is_not_swapped_in(
    tmp_path: Path, base_gguf: Path
) -> None:
    """And one that is right answers, with its window and what it guarantees."""

    async def run() -> None:
        store = Store(tmp_path)
        good = release(name="good", artifact="good", build=build(base_gguf))
        for name in ("good", "bad"):
            folder = store.root / "objects" / name
            folder.mkdir(parents=True)
            (folder / "model.gguf").symlink_to(base_gguf)
        releases.write(store, good)
        launch = launcher(store, EngineSettings(slots=2))
        fleet = Fleet(store, {"m": ServedModel()}, ServeSettings(), launch, slots=2)
        try:
            await fleet.start()
            with pytest.raises(EngineLoadError, match="its bytes have changed"):
                await fleet.swap("m", release(name="bad", artifact="bad"))
            async with fleet.lease("m") as station:
                assert station.template["supports_system_role"]
                assert station.window and station.window.size == 512
                assert station.guarantee.words.startswith("same bytes")
            assert await ask(fleet, "Say yes.", "m")
        finally:
            await fleet.stop()

    asyncio.run(run())
