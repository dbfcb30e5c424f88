"""What the tests of process life share: who is gone, and a parent that can be killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


def gone(pid: int) -> bool:
    """Whether the process ended. A zombie has; nobody may be there to collect it."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def eventually(fact: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether `fact` comes true; the limit only bounds a test that fails."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if fact():
            return True
        time.sleep(0.05)
    return fact()


def parent(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that runs `code`; it is to print what the test waits for."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
