"""What the watch looks at between requests: engines, this process, GPUs, the disk, the budgets."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSample:
    """One engine now. `down` says why it cannot be asked, and is empty when it can; `memory` is
    resident, in bytes; `cpu` is seconds of processor time so far; `busy` of the `slots` are at
    work; `cache` is the share (0..1) of the key-value cache that holds tokens; None: unknown."""

    model: str
    build: str
    down: str = ""
    pid: int = 0
    restarts: int = 0
    memory: int = 0
    cpu: float = 0.0
    slots: int | None = None
    busy: int | None = None
    cache: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """`used` and `total` memory in bytes; `busy` is a share (0..1) of the last moments."""

    name: str
    used: int
    total: int
    busy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Money of this month."""

    spent: float
    limit: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """All of it at `time`, in seconds since 1970. `memory` and `cpu` are the gateway's own, as of
    an engine; `disk_free` and `disk_total` are in bytes; `at_work` counts requests, `waiting`
    exchanges that are not in the store yet; `budgets` are by model."""

    time: float
    memory: int
    cpu: float
    disk_free: int
    disk_total: int
    engines: tuple[EngineSample, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    at_work: int = 0
    waiting: int = 0
    budgets: Mapping[str, Budget] = field(default_factory=dict)


class ProcessUse(NamedTuple):
    """Resident memory in bytes, and seconds of processor time."""

    memory: int
    cpu: float


def process_use(pid: int | None = None) -> ProcessUse:
    """Of a process and all that it started; of this one alone without `pid`. Zeros where there is
    none."""
    try:
        process = psutil.Process(pid)
        family = [process, *(process.children(recursive=True) if pid else [])]
        uses = [(one.memory_info().rss, one.cpu_times()) for one in family]
    except psutil.NoSuchProcess:  # it ended between the two looks
        return ProcessUse(0, 0.0)
    return ProcessUse(sum(m for m, _ in uses), sum(c.user + c.system for _, c in uses))


def disk_use(folder: Path) -> tuple[int, int]:
    """Bytes that are free to us, and in all, where `folder` is."""
    use = psutil.disk_usage(str(folder))
    return use.free, use.total


def gpus() -> tuple[Gpu, ...]:
    """What NVIDIA's library tells; nothing where it or a GPU is missing."""
    try:
        import pynvml
    except ImportError:
        return ()
    found = []
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        for number in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(number)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            busy = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
            found.append(Gpu(name=f"{number}", used=memory.used, total=memory.total, busy=busy))
    return tuple(found)
