"""What this machine has: cores that are free, instruction sets, memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """`memory` in bytes; `flags` are the processor's as Linux names them."""

    processor: str
    cores: int
    memory: int
    flags: frozenset[str]

    @property
    def fast_bfloat16(self) -> bool:
        """Whether matrix products in bfloat16 run in hardware; elsewhere they crawl."""
        return bool(self.flags & {"amx_bf16", "avx512_bf16"})


def calm_openmp() -> None:
    """Keep OpenMP's threads from spinning at barriers; call before torch is first imported.

    With the default count one busy neighbour slows training on two cores tenfold (docs/log.md).
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def usable_cores() -> int:
    """Cores that this process may run on: its affinity, and no more than its cgroup's quota."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def free_cores() -> int:
    """Cores that are idle now, measured over a fifth of a second; at least one."""
    busy = psutil.cpu_percent(interval=0.2) / 100 * (os.cpu_count() or 1)
    return max(1, min(usable_cores(), round((os.cpu_count() or 1) - busy)))


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch compute with one thread: sums in another order differ in their last digits."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def read() -> Hardware:
    """Look at this machine."""
    name, flags = "unknown processor", frozenset[str]()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() == "flags":
                flags = frozenset(value.split())
    except OSError:
        pass
    memory = psutil.virtual_memory().total
    return Hardware(processor=name, cores=usable_cores(), memory=memory, flags=flags)
