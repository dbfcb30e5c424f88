from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines.processes import ROOT

ASK = "from residency.watch import samples; print(samples.gpus())"


def test_a_gpu_is_seen_by_nvidias_library(tmp_path: Path) -> None:
    """The real binding, and a library with its C functions in place of the driver's."""
    pytest.importorskip("pynvml", reason="the extra gpu is missing")
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("there is no C compiler to build the stand-in with")
    library, source = tmp_path / "libnvidia-ml.so.1", ROOT / "tests/fakes/nvml.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    said = subprocess.run(
        [sys.executable, "-c", ASK], capture_output=True, text=True, check=True,
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path)},
    )  # fmt: skip
    assert said.stdout.strip() == "(Gpu(name='0', used=8000000000, total=24000000000, busy=0.25),)"


def test_no_gpu_and_no_driver_are_no_error() -> None:
    said = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("(")
