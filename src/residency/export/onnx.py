"""A Hugging Face folder as a model for ONNX Runtime, by onnxruntime-genai's own builder."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from residency.engines.onnx import check_installed
from residency.errors import ModelError
from residency.export.convert import run_script
from residency.progress import say

Precision = Literal["int4", "fp32"]
FORMS: Mapping[str, Precision] = {"onnx-int4": "int4", "onnx-fp32": "fp32"}
"""By their names in `export.also`."""
# The builder's own default, the nearest of 16 values for each weight, diverged on SmolLM2 by 0.31
# nats a token; k-quants' scales alone by 0.30, with 8 bits for the last product 0.22, and with 8
# bits also in the layers that llama.cpp's Q4_K_M spares 0.13, at 112 MB in place of 86.
_OPTIONS = {"int4": ("--extra_options", "algo_config=k_quant_mixed"), "fp32": ()}


def make(folder: Path, target: Path, precision: Precision) -> None:
    """Write the model of `folder` to the folder `target`, with tokenizer and chat template.

    The builder imports its neighbours as if it were a script, so it is run as one. Raises
    `ModelError` with its reason, `MissingError` when it is not installed.
    """
    builder = check_installed() / "models" / "builder.py"
    say(f"building {precision} for ONNX Runtime")
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        code, lines = run_script(
            builder,
            *("-i", str(folder), "-o", str(target), "-c", scratch),
            *("-p", precision, "-e", "cpu", *_OPTIONS[precision]),
        )
    if code or not (target / "genai_config.json").is_file():
        reason = lines[-1] if lines else f"exit code {code}"
        raise ModelError(
            f"{folder}: onnxruntime-genai's builder cannot build this model: {reason}",
            hint="leave onnx-int4 and onnx-fp32 out of [export] also, or take another base model",
        )
