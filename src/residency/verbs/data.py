"""Looking at training data before anything is trained on it."""

from __future__ import annotations

from pathlib import Path

from residency import config
from residency.cli import Result
from residency.pipeline import Chain
from residency.types import to_dict


def check(workspace: Path, file: Path) -> Result:
    """Read a file as training data; the workspace's `[data]` settings hold where there is one."""
    from residency.data.check import check as look

    there = (workspace / config.FILE_NAME).exists()
    settings = config.load(workspace).data if there else config.DataSettings(file=str(file))
    report = look(file, settings)
    return Result(
        data=to_dict(report), text="\n".join(f"{k}: {v}" for k, v in to_dict(report).items())
    )


def label(workspace: Path) -> Result:
    """Ask the teacher, and say where the labelled file is."""
    chain = Chain(workspace, config.load(workspace))
    outcome = chain.label()
    figures = to_dict(outcome.record.figures)
    (file,) = chain.store.output(outcome.record, "labelled").path.iterdir()
    lines = [f"{name}: {value}" for name, value in figures.items() if name != "dropped_rows"]
    text = "\n".join([*lines, f"file: {file}"])
    return Result(data={"file": str(file), "cached": outcome.cached, **figures}, text=text)


def preview(workspace: Path, count: int) -> Result:
    """Samples of the training split as the model sees them."""
    from residency.conversations import read_conversations
    from residency.data.preview import preview as show
    from residency.models.chat import load_tokenizer

    chain = Chain(workspace, config.load(workspace))
    chain.run("data")
    dataset = chain.store.output(chain.done("data"), "dataset")
    rows = read_conversations(dataset.path / "train.jsonl")[:count]
    tokenizer = load_tokenizer(chain.base().path)
    text = show(tokenizer, rows)
    return Result(data={"samples": text, "count": len(rows)}, text=text)
