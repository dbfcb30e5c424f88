"""Runs of the training stage on a model of 65,000 weights a layer, here or in a child process.

`python -m tests.train.runs FOLDER BASE DATASET SETTINGS` trains below FOLDER and prints the record,
and then, to stderr, the most memory that it took. SETTINGS are those of `[train]` in JSON.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

from residency.config import TrainSettings
from residency.conversations import write_conversations
from residency.models.base import BaseModel
from residency.store import Store
from residency.train import stage
from residency.train.trainer import COMPLETE
from residency.types import Artifact, Conversation, Message, Record, to_json

KEY = "test"
SUBJECTS = ("bill", "visit", "test", "form", "pill", "card", "room", "letter")
WANTS = ("where is my", "please change my", "I lost the", "who signed my", "what about her")
QUICK = {"epochs": 2, "batch": 4, "learning_rate": 3e-3, "threads": 1, "precision": "float32"}
_SECONDS = 120.0  # for a first checkpoint, on a busy machine


def conversation(question: str, answer: str) -> Conversation:
    turns = (("system", "Desk."), ("user", question), ("assistant", answer))
    messages = tuple(Message(role=role, content=text) for role, text in turns)  # type: ignore[arg-type]
    return Conversation(messages=messages, source="a:1")


def write_dataset(folder: Path, count: int = 32) -> Artifact:
    """`count` rows to train on, and eight to validate."""
    folder.mkdir(parents=True)
    for split, rows in (("train", count), ("validation", 8)):
        write_conversations(
            folder / f"{split}.jsonl",
            (
                conversation(
                    f"{WANTS[i % 5]} {SUBJECTS[i % 8]} {i // 40}?", f"about the {SUBJECTS[i % 8]}"
                )
                for i in range(rows)
            ),
        )
    return Artifact(path=folder, kind="dataset", digest="")


def train(folder: Path, base: Path, dataset: Path, **settings: object) -> Record:
    """Train below `folder`; a second call goes on where the first was cut off."""
    teacher, corpus = settings.get("teacher_model"), settings.get("corpus")
    inputs = stage.Inputs(
        dataset=Artifact(path=dataset, kind="dataset", digest=""),
        base=model_at(base),
        teacher=model_at(Path(str(teacher))) if teacher else None,
        corpus=Path(str(corpus)) if corpus else None,
    )
    draft = Store(folder).open("train", KEY, inputs={}, settings={}, seed=0)
    return stage.run(inputs, TrainSettings.model_validate({**QUICK, **settings}), draft)


def model_at(folder: Path) -> BaseModel:
    return BaseModel(name="tiny", path=folder, digest="", license="", source="a test")


def start(folder: Path, base: Path, dataset: Path, **settings: object) -> subprocess.Popen[str]:
    """The same in a child process."""
    words = [sys.executable, "-m", "tests.train.runs", str(folder), str(base), str(dataset)]
    return subprocess.Popen(
        [*words, json.dumps(settings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def kill_after_checkpoints(folder: Path, base: Path, dataset: Path, **settings: object) -> None:
    """Start a run and kill it when two of its checkpoints are whole."""
    process = start(folder, base, dataset, **settings)
    work = Store(folder).root / "work" / f"train-{KEY}"
    give_up = time.monotonic() + _SECONDS
    while len(list(work.rglob(COMPLETE))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert work.exists(), "it had finished before the kill"


def output(folder: Path, record: Record) -> Path:
    """The folder of the adapter or model that a run left."""
    (name,) = set(record.outputs) - {"diagnosis"}
    return Store(folder).output(record, name).path


if __name__ == "__main__":
    out, base, dataset, given = sys.argv[1:]
    print(to_json(train(Path(out), Path(base), Path(dataset), **json.loads(given))))
    # In kilobytes, as Linux counts it.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak": most}), file=sys.stderr)
