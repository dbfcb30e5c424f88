"""Build llama.cpp's own tools for this very processor: `python -m residency.engines.native`.

`residency setup llama.cpp` runs it last, with its environment's folder and the sdist whose source
it takes: xllamacpp's, so that the tools are of the llama.cpp that serves.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import get_args

from residency import hardware
from residency.config import DEFAULT_BASE
from residency.engines.environments import LLAMA_CPP, python
from residency.models import carried
from residency.types import Level

TOOLS = ("llama-server", "llama-quantize", "llama-imatrix", "llama-perplexity", "llama-bench")
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF",
)  # fmt: skip
# With gcc 12 an AMX build of Q8_0 died of an illegal instruction.
WITHOUT_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
WORST = 4.0
"""A level whose perplexity is this many times that of f16 is broken, not merely small."""


def tool(name: str) -> Path:
    """The path of one of `TOOLS`. Raises `MissingError` where they are not built."""
    return python(LLAMA_CPP).parents[1] / "build" / "bin" / name


def build(place: Path, source: str) -> None:
    """Fetch, compile and try. Raises `SystemExit` with the reason."""
    if not shutil.which("c++"):
        raise SystemExit("there is no C++ compiler; install one with: apt-get install g++")
    tree = _fetch(place, source) / "thirdparty" / "llama.cpp"
    options = list(OPTIONS)
    if "amx_tile" in hardware.read().flags:
        options += [f"-DCMAKE_C_FLAGS={WITHOUT_AMX}", f"-DCMAKE_CXX_FLAGS={WITHOUT_AMX}"]
    programs, made = place / "bin", place / "build"
    ninja = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={programs / 'ninja'}"]
    _run([str(programs / "cmake"), "-S", str(tree), "-B", str(made), *ninja, *options])
    jobs = str(hardware.usable_cores())
    _run([str(programs / "cmake"), "--build", str(made), "-j", jobs, "--target", *TOOLS])
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        try_levels(made / "bin", tree / "README.md", Path(scratch))


def _fetch(place: Path, source: str) -> Path:
    """The unpacked sdist."""
    folder = place / "source"
    pip = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python")]
    # pip asks an sdist for its name, with the setuptools and Cython of the environment.
    options = ["--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--no-input"]
    _run([*pip, "download", *options, "--dest", str(folder), source])
    (file,) = folder.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        archive.extractall(folder, filter="data")
    return folder / file.name.removesuffix(".tar.gz")


def try_levels(tools: Path, text: Path, scratch: Path) -> None:
    """Quantize a model to each level and read `text` with it; `SystemExit` names one that fails."""
    f16, found = scratch / "F16.gguf", {}
    quantize = [str(tools / "llama-quantize"), "--allow-requantize"]
    _run([*quantize, str(carried.gguf(DEFAULT_BASE)), str(f16), "F16"])
    for level in ("F16", *get_args(Level)):
        print(f"Trying {level}", flush=True)
        file = scratch / f"{level}.gguf"
        if file != f16:
            _run([*quantize, str(f16), str(file), level])
        ask = ["-m", str(file), "-f", str(text), "-c", "128", "--chunks", "4"]
        said = _run([str(tools / "llama-perplexity"), *ask])
        match = re.search(r"PPL = ([\d.]+)", said)
        found[level] = float(match[1]) if match else float("inf")
        if found[level] > WORST * found["F16"]:
            raise SystemExit(f"{level} is broken: perplexity {found[level]}, F16 {found['F16']}")


def _run(command: list[str]) -> str:
    """Run a step and show what it prints. Raises `SystemExit` when it fails."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace",
    )  # fmt: skip
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        print(line, end="", flush=True)
        said.append(line)
    if code := process.wait():
        last = " ".join("".join(said[-3:]).split())
        raise SystemExit(f"{Path(command[0]).name} ended with code {code}: {last}")
    return "".join(said)


if __name__ == "__main__":
    build(Path(sys.argv[1]), sys.argv[2])
