"""GPTQ: weights of four bits for vLLM, by llmcompressor in an environment of its own."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from residency.engines.environments import GPTQ, python
from residency.engines.hosted import SPIN_COUNT
from residency.errors import ModelError
from residency.fingerprint import TOP, Fingerprint, make_place
from residency.models.chat import render
from residency.models.folder import copy_tokenizer
from residency.progress import Progress, say
from residency.types import Conversation

MAIN = Path(__file__).with_name("gptq_main.py")
GROUPS = (128, 64, 32)
ROWS = 256
"""Conversations to calibrate with; llmcompressor's own examples take 512 of 2,048 tokens."""
_LAYER = re.compile(r"\((\d+)/(\d+)\): Calibrating")


def group_size(config: Path) -> int:
    """How many weights share a scale: the largest size that divides the model's widths.

    Raises `ModelError` where none does.
    """
    values = json.loads(config.read_text(encoding="utf-8"))
    widths = [values["hidden_size"], values["intermediate_size"]]
    if head := values.get("head_dim"):
        widths.append(values["num_attention_heads"] * head)
    for size in GROUPS:
        if all(width % size == 0 for width in widths):
            return size
    raise ModelError(
        f"{config}: GPTQ's groups of {', '.join(map(str, GROUPS))} divide none of {widths}",
        hint="leave gptq out of [export] also",
    )


def make(
    folder: Path,
    target: Path,
    tokenizer: Any,
    rows: Sequence[Conversation],
    reference: Fingerprint,
) -> tuple[Fingerprint, str]:
    """Write the model of `folder`, calibrated with `rows`, to the folder `target`.

    Gives the fingerprint of what was written, as transformers reads it again, and a note. Raises
    `MissingError` without the environment and `ModelError` with llmcompressor's reason.
    """
    interpreter = python(GPTQ)
    size = group_size(folder / "config.json")
    say(f"GPTQ, a scale for each {size} weights, calibrated with {min(len(rows), ROWS)} rows")
    spec = {
        "model": str(folder),
        "target": str(target),
        "group": size,
        "rows": [
            render(tokenizer, one.messages, answer=True, tools=one.tools).ids for one in rows[:ROWS]
        ],
        "probes": [
            {"ids": probe.ids, "lengths": [place.length for place in probe.places]}
            for probe in reference.probes
        ],
        "top": TOP,
    }
    taken = _quantized(interpreter, spec, folder, target)
    copy_tokenizer(folder, target)
    probes = tuple(
        dataclasses.replace(
            probe,
            places=tuple(
                make_place(p.length, top) for p, top in zip(probe.places, tops, strict=True)
            ),
        )
        for probe, tops in zip(reference.probes, taken, strict=True)
    )
    note = f"GPTQ W4A16, a scale for each {size} weights, by {GPTQ.packages[0]}, for vLLM"
    return dataclasses.replace(reference, probes=probes), note


def _quantized(interpreter: Path, spec: Mapping[str, Any], folder: Path, target: Path) -> list[Any]:
    """Have llmcompressor do it, in its own environment; the likeliest tokens at each place."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        asked = Path(scratch) / "spec.json"
        asked.write_text(json.dumps(spec), encoding="utf-8")
        code, last = _run([str(interpreter), "-P", str(MAIN), str(asked)], scratch)
        if code:
            reason = last or f"exit code {code}"
            raise ModelError(
                f"{folder}: llmcompressor cannot quantize this model: {reason}",
                hint="leave gptq out of [export] also, or take another base model",
            )
        taken: list[Any] = json.loads((Path(scratch) / "places.json").read_text(encoding="utf-8"))
    return taken


def _run(command: list[str], scratch: str) -> tuple[int, str]:
    """Run llmcompressor in the folder `scratch` and show which layer it is at: its exit code, and
    the last line that it wrote."""
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": scratch, "HOME": scratch}
    process = subprocess.Popen(
        command,
        cwd=scratch,
        env=env | {"GOMP_SPINCOUNT": SPIN_COUNT},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert process.stderr is not None
    last = ""
    try:
        with process.stderr, Progress("GPTQ, layers", 0) as progress:
            for line in process.stderr:
                last = line.strip() or last
                if found := _LAYER.search(line):
                    progress.total = int(found[2])
                    progress.advance(int(found[1]) - progress.done)
        return process.wait(), last
    except BaseException:  # Ctrl-C too must not leave it behind
        process.kill()
        raise
