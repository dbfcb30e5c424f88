"""A model that begins from nothing: what it reads, and that a seed decides all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from residency.config import TrainSettings
from residency.conversations import write_conversations
from residency.errors import DataError
from residency.models.chat import load_tokenizer
from residency.store import digest_tree
from residency.train import scratch
from residency.train.rows import rows_of_text
from tests.train import runs

SETTINGS = {"method": "scratch", "parameters": 150_000, "vocabulary": 320}
NOWHERE = Path("/nowhere")  # there is no base model


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    dataset = runs.write_dataset(tmp_path / "dataset").path
    given = {**SETTINGS, "epochs": 2}
    folders = []
    for name in ("one", "two"):
        record = runs.train(tmp_path / name, NOWHERE, dataset, **given)
        assert set(record.outputs) >= {"model"}
        folders.append(runs.output(tmp_path / name, record))
    one, two = map(digest_tree, folders)
    assert one == two
    other = runs.train(tmp_path / "other", NOWHERE, dataset, **given, seed=5)
    assert digest_tree(runs.output(tmp_path / "other", other)) != one


@pytest.mark.slow
def test_killed_and_resumed_is_undisturbed(tmp_path: Path) -> None:
    dataset = runs.write_dataset(tmp_path / "dataset").path
    given = {**SETTINGS, "epochs": 40, "patience": 40, "batch": 4}
    whole = runs.train(tmp_path / "whole", NOWHERE, dataset, **given)
    runs.kill_after_checkpoints(tmp_path / "killed", NOWHERE, dataset, **given)
    resumed = runs.train(tmp_path / "killed", NOWHERE, dataset, **given)
    assert resumed.figures == whole.figures
    mine, its = (
        digest_tree(runs.output(tmp_path / name, record))
        for name, record in (("killed", resumed), ("whole", whole))
    )
    assert mine == its


def test_what_is_held_out_teaches_the_tokenizer_nothing(tmp_path: Path) -> None:
    dataset = runs.write_dataset(tmp_path / "dataset").path
    held_out = [runs.conversation("zyxwvutsrq " * 20, "zyxwvutsrq") for _ in range(50)]
    write_conversations(dataset / "validation.jsonl", held_out)
    model = scratch.begin(dataset, TrainSettings(**SETTINGS), None, tmp_path / "model")
    tokenizer = load_tokenizer(model)
    assert len(tokenizer.tokenize("zyxwvutsrq")) == 10
    assert len(tokenizer.tokenize("about")) == 1


def test_a_corpus_is_packed_and_learnt_as_a_whole(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(f"The crane lifts load {n}." for n in range(200)))
    dataset = runs.write_dataset(tmp_path / "dataset").path
    model = scratch.begin(dataset, TrainSettings(**SETTINGS), corpus, tmp_path / "model")
    tokenizer = load_tokenizer(model)
    assert len(tokenizer.tokenize(" crane")) == 1
    rows = list(rows_of_text(tokenizer, corpus))
    assert {len(row["input_ids"]) for row in rows[:-1]} == {256}
    assert all(row["labels"] == row["input_ids"] for row in rows)
    text = tokenizer.decode([i for row in rows for i in row["input_ids"]])
    assert text.replace("<|end|>", "\n\n").strip() == corpus.read_text()
    with pytest.raises(DataError, match="cannot be read"):
        list(rows_of_text(tokenizer, tmp_path / "none.txt"))
