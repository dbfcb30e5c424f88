"""Which of several training processes this one is; of one process, the first of one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


def rank() -> int:
    """The number of this process, from 0; torch's launchers and ours put it into `RANK`."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes train together."""
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_initialized() else 1


@contextlib.contextmanager
def joined(device: str) -> Iterator[None]:
    """Be one of the processes that the environment tells of, as long as this lasts."""
    import torch.distributed as dist

    dist.init_process_group("gloo" if device == "cpu" else "nccl")
    try:
        yield
    finally:
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until every process is here."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.barrier()
