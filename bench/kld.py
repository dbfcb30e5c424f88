"""Our perplexity and KL divergence beside llama.cpp's own, on the same files and the same tokens.

    python bench/kld.py REFERENCE.gguf BUILD.gguf TEXT [--context 256] [--chunks 32] [--tools DIR]

llama.cpp's is `llama-perplexity --kl-divergence` (`residency setup llama.cpp`): it cuts the text
into windows of the context's size and scores the second half of each. We are given the same.
Its perplexity of the reference is lower where the text surprises: the file through which it hands
the reference on keeps no probability below exp(-16) of the likeliest token's.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from residency.engines.logits import Logits
from residency.engines.native import tool
from residency.gate.divergence import Text, measure
from residency.models.gguf_file import read_header
from residency.types import Rate

FIGURES = {
    "perplexity": r"Mean PPL\(Q\) +: +([\d.]+)",
    "reference_perplexity": r"Mean PPL\(base\) +: +([\d.]+)",
    "kld": r"Mean +KLD: +([\d.]+)",
    "kld_p99": r"99\.0% +KLD: +([\d.]+)",
    "same_top": r"Same top p: +([\d.]+)",
}


def theirs(
    program: Path, models: Sequence[Path], options: Sequence[str], base: Path
) -> list[float]:
    """llama.cpp's figures in the order of `FIGURES`; `base` becomes its file of logits."""
    for model, more in zip(models, ([], ["--kl-divergence"]), strict=True):
        command = [str(program), "-m", str(model), "--kl-divergence-base", str(base)]
        done = subprocess.run(
            [*command, *options, *more], capture_output=True, text=True, check=True
        )
    found = [re.search(pattern, done.stdout + done.stderr) for pattern in FIGURES.values()]
    *others, same_top = [float(match[1]) for match in found if match]
    return [*others, same_top / 100]


def windows(base: Path, model: Path) -> list[Text]:
    """The windows in llama.cpp's file of logits, of which it scores all after the middle token."""
    header = np.fromfile(base, np.int32, 5)[2:]  # after eight bytes of magic
    context, _, chunks = (int(n) for n in header)
    ids = np.fromfile(base, np.int32, context * chunks, offset=20).reshape(chunks, context)
    metadata = read_header(model).metadata
    if metadata.get("tokenizer.ggml.add_bos_token"):
        ids[:, 0] = metadata["tokenizer.ggml.bos_token_id"]
    first = context // 2 + 1
    return [Text(ids=tuple(row), answer=first, first=first) for row in ids.tolist()]


def compare(
    models: Sequence[Path], text: Path, program: Path, *, context: int = 256, chunks: int = 32
) -> dict[str, tuple[Rate, float]]:
    """For each figure ours, with its 95% interval, and llama.cpp's."""
    options = ["-f", str(text), "-c", str(context), "--chunks", str(chunks)]
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "logits"
        their = theirs(program, models, options, base)
        texts = windows(base, models[0])
    with Logits(models[0], context=context) as one, Logits(models[1], context=context) as other:
        found = measure(one.read, {"build": other.read}, texts)["build"].everything
    ours = [getattr(found, name) for name in FIGURES]
    return dict(zip(FIGURES, zip(ours, their, strict=True), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("reference", "build", "text"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--chunks", type=int, default=32)
    parser.add_argument("--tools", type=Path, help="where llama-perplexity is, if built elsewhere")
    asked = parser.parse_args()
    name = "llama-perplexity"
    program = asked.tools / name if asked.tools else tool(name)
    models = (asked.reference, asked.build)
    found = compare(models, asked.text, program, context=asked.context, chunks=asked.chunks)
    print(f"{'':22}{'ours':>12}{'95%':>24}{'llama.cpp':>12}{'ratio':>9}")
    for name, (ours, their) in found.items():
        interval = f"{ours.low:.6f} to {ours.high:.6f}"
        print(f"{name:22}{ours.value:12.6f}{interval:>24}{their:12.6f}{ours.value / their:9.4f}")


if __name__ == "__main__":
    main()
