"""What is told of a build to whoever gets it: a model card in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from residency import __version__
from residency.builds import CARD, read_training
from residency.models.base import BaseModel
from residency.types import Artifact, Build

if TYPE_CHECKING:
    from residency.export.stage import Inputs

UNKNOWN_LICENSE = "unknown: look it up before you hand this on"


def license_of(base: BaseModel) -> str:
    """The base model's licence, which binds its builds too."""
    return base.license or UNKNOWN_LICENSE


def rows(dataset: Artifact) -> dict[str, int]:
    """How many rows each split of a data set has."""
    splits = sorted(dataset.path.glob("*.jsonl"))
    return {path.stem: path.read_bytes().count(b"\n") for path in splits}


def limits(inputs: Inputs, divergence: float) -> tuple[str, ...]:
    """What a build is not: `divergence` is from the step before it, in nats a token."""
    return (
        f"It learnt from {rows(inputs.dataset)['train']} examples of one kind of work. Of all else "
        "it knows no more than its base model, and may have forgotten some of that.",
        "It may be wrong, and it says so to nobody: the gate's rates are for questions like those "
        "of its test split, and for no others.",
        f"From what it was made of it diverges by {divergence:.5f} nats a token, measured on a few "
        "conversations; this shows a broken step, not a small loss of quality.",
    )


def write_card(folder: Path, build: Build, inputs: Inputs, divergence: float) -> None:
    """Write the model card `README.md`. The verdict is not in it: it is not known yet."""
    front = {"license": license_of(inputs.base)}
    if inputs.base.weights:
        front["base_model"] = inputs.base.name
    header = "".join(f"{name}: {json.dumps(value)}\n" for name, value in front.items())
    notes = "".join(f"- {note}\n" for note in build.notes)
    counts = ", ".join(f"{name} {count}" for name, count in rows(inputs.dataset).items())
    words = "".join(f"- {limit}\n" for limit in limits(inputs, divergence))
    trained = inputs.trained
    text = f"""---
{header}---
# {build.name}: a specialist on {inputs.base.name}

| | |
|---|---|
| base | {inputs.base.name}, from {inputs.base.source}, digest {inputs.base.digest} |
| licence of the base | {license_of(inputs.base)} |
| data | digest {inputs.dataset.digest}; rows: {counts} |
| training | {read_training(trained.path).words}; its {trained.kind}'s digest {trained.digest} |
| form | {build.name}, {build.format}, {build.size / 1e6:.0f} MB, made by residency {__version__} |
| model file | {build.file}, digest {build.digest} |
| ends an answer with | {" ".join(f"`{token}`" for token in build.stop_tokens)} |

{notes}
`SHA256SUMS` has the SHA-256 of every file here, `bom.json` the bill of materials. Whether it is
good enough for its work is the gate's verdict, which stands below once it was released.

## Limits

{words}"""
    (folder / CARD).write_text(text, encoding="utf-8")
