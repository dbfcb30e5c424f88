"""One of several processes that train together: `python -m residency.train.worker FOLDER`.

It takes up the job that lies in FOLDER. `RANK`, `WORLD_SIZE` and the address of the first process
are in its environment, as torchrun puts them there, so torch and accelerate know all the rest.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from residency.engines.host import die_with_parent
from residency.errors import OutOfMemory, ResidencyError
from residency.sealed import seal_from_environment
from residency.train import ranks, stage
from residency.train.workers import read_job, write_outcome


def main(folder: Path) -> int:
    """Do this process's share; the first one writes the outcome. Returns the exit code."""
    die_with_parent(signal.SIGKILL)
    seal_from_environment()
    stage.prepare()
    job, plan, timed_steps = read_job(folder)
    try:
        with ranks.joined(plan.device):
            if timed_steps:
                figures = {"seconds": stage.time_steps(job, plan, timed_steps)}
            else:
                figures = stage.learn(job, plan)
    except ResidencyError as error:
        # Memory may give out in any of them, and the others then die for want of it.
        if ranks.rank() == 0 or isinstance(error, OutOfMemory):
            write_outcome(folder, error=error)
        return error.exit_code
    if ranks.rank() == 0:
        write_outcome(folder, figures=figures)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
