"""A run of the training stage with little memory, which prints the record.

`python -m tests.train.tight MEGABYTES FOLDER BASE DATASET SETTINGS`; MEGABYTES are what it may take
beyond its libraries.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import psutil

from residency.types import to_json
from tests.train import runs


def main() -> None:
    import datasets  # noqa: F401 (libraries are not what should run out)
    import peft  # noqa: F401
    import torch
    from trl.trainer.sft_trainer import SFTTrainer  # noqa: F401

    megabytes, folder, base, dataset, settings = sys.argv[1:]
    torch.ones(
        1, requires_grad=True
    ).sum().backward()  # autograd's threads have stacks of their own
    most = psutil.Process().memory_info().vms + int(megabytes) * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    record = runs.train(Path(folder), Path(base), Path(dataset), **json.loads(settings))
    print(to_json(record))


if __name__ == "__main__":
    main()
