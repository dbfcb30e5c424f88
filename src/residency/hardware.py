"""What this machine has: cores that are free, instruction sets, memory."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

_M_MMAP_THRESHOLD = -3  # of mallopt, in malloc.h


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """`memory` in bytes; `flags` are the processor's as Linux names them; `gpus` are those that
    torch sees, where it was asked (`with_gpus`)."""

    processor: str
    cores: int
    memory: int
    flags: frozenset[str]
    gpus: int = 0

    @property
    def fast_bfloat16(self) -> bool:
        """Whether matrix products in bfloat16 are faster than in float32.

        AVX-512's dot products alone are not enough: torch reaches 160 GFLOP/s with them where
        float32 reaches 262 (docs/log.md).
        """
        return bool(self.gpus or "amx_bf16" in self.flags)

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Where torch computes."""
        return "cuda" if self.gpus else "cpu"

    def with_gpus(self) -> Hardware:
        """The same machine after torch was asked for its GPUs, which loads torch."""
        import torch

        return dataclasses.replace(self, gpus=torch.cuda.device_count())


def calm_openmp() -> None:
    """Keep OpenMP's threads from spinning long at barriers; call before torch is first imported.

    With the default count one busy neighbour slows training on two cores tenfold; with a quarter of
    ours training alone is a quarter slower, as its threads sleep at every barrier (docs/log.md).
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "4000")


def compact_heap() -> None:
    """Have glibc map each block of a megabyte or more by itself, and give it back when it is freed.

    Torch asks for aligned blocks, and glibc up to 2.37 puts no such block into the hole that one of
    its size left: a step of LoRA on SmolLM2 took 4.1 GB in place of 3.1. Mapping costs a tenth to a
    fifth of the speed, so it is for when memory is short.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)


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
