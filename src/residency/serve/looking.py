"""What there is to see between requests, and who is told: the watch's part of the process."""

from __future__ import annotations

import asyncio
import functools
import time
from pathlib import Path

from residency.errors import ResidencyError
from residency.progress import say
from residency.serve.gateway import Gateway
from residency.serve.station import Deployment
from residency.watch import samples, told
from residency.watch.alerts import Change, Grouping
from residency.watch.notify import Notifier
from residency.watch.samples import EngineSample, Sample


async def look(gateway: Gateway, folder: Path) -> Sample:
    """What there is to see now; `folder` is the workspace's."""
    own, disk, gpus = await asyncio.to_thread(_machine, folder)
    deployed = gateway.fleet.deployed()
    engines = await asyncio.gather(*(_engine(name, one) for name, one in deployed.items()))
    recorder = gateway.books.recorder
    return Sample(
        time=time.time(),
        memory=own.memory,
        cpu=own.cpu,
        disk_free=disk[0],
        disk_total=disk[1],
        engines=tuple(engines),
        gpus=gpus,
        at_work=gateway.at_work,
        waiting=recorder.waiting if recorder else 0,
        budgets=gateway.budgets(),
    )


def _machine(folder: Path) -> tuple[samples.ProcessUse, tuple[int, int], tuple[samples.Gpu, ...]]:
    return samples.process_use(), samples.disk_use(folder), samples.gpus()


async def _engine(name: str, deployed: Deployment) -> EngineSample:
    supervisor = deployed.supervisor
    known = functools.partial(
        EngineSample,
        model=name,
        build=deployed.release.name,
        pid=supervisor.engine.pid,
        restarts=supervisor.restarts,
    )
    if supervisor.words:
        return known(down=supervisor.words)
    use = await asyncio.to_thread(samples.process_use, supervisor.engine.pid)
    try:
        load = await supervisor.client().load()
    except ResidencyError:
        load = None  # its supervisor looks after that
    return known(
        memory=use.memory,
        cpu=use.cpu,
        slots=load.slots if load else None,
        busy=load.busy if load else None,
        cache=load.cache if load else None,
    )


async def watch(gateway: Gateway, folder: Path, notifier: Notifier) -> None:
    """Look, every now and then, and tell what alerts say, until cancelled."""
    grouping, observer = Grouping(), gateway.observer
    waiting: asyncio.Queue[list[Change]] = asyncio.Queue()
    telling = asyncio.create_task(_tell(notifier, waiting))
    try:
        while True:
            try:
                sample = await look(gateway, folder)
                observer.drift = await asyncio.to_thread(told.last, folder / ".residency")
                changes = observer.look(sample)
                if changes:
                    await asyncio.to_thread(notifier.note, changes)
                grouping.add(changes)
                if due := grouping.due(sample.time):
                    waiting.put_nowait(due)
            except (ResidencyError, OSError) as error:
                say(f"watch: {error}")
            await asyncio.sleep(observer.settings.every)
    finally:
        telling.cancel()


async def _tell(notifier: Notifier, waiting: asyncio.Queue[list[Change]]) -> None:
    """Beside the looking: who is told may take a minute to answer."""
    while True:
        await asyncio.to_thread(notifier.tell, await waiting.get())
