from pathlib import Path

from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer
from residency.train.rows import encode
from residency.train.stage import _figures
from residency.train.trainer import COMPLETE, last_checkpoint, stalled
from residency.types import Conversation, Message


def conversation(question: str, answer: str) -> Conversation:
    return Conversation(
        messages=(
            Message(role="system", content="Desk."),
            Message(role="user", content=question),
            Message(role="assistant", content=answer),
        ),
        source="a:1",
    )


def test_only_the_answer_and_its_end_are_learnt(base: BaseModel) -> None:
    tokenizer = load_tokenizer(base.path)
    (row,) = encode(tokenizer, [conversation("Where are you?", "reception")])
    learnt = [token for token in row["labels"] if token != -100]
    assert tokenizer.decode(learnt) == "reception<|im_end|>"
    assert len(row["labels"]) == len(row["input_ids"])


def test_patience() -> None:
    assert not stalled([1.0, 0.5], 2)
    assert not stalled([1.0, 0.5, 0.6], 2)
    assert stalled([1.0, 0.5, 0.6, 0.7], 2)
    assert not stalled([1.0, 0.5, 0.6, 0.4], 2)
    assert not stalled([], 1)


def test_a_checkpoint_cut_short_is_not_used(tmp_path: Path) -> None:
    for step, whole in ((5, True), (10, True), (15, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if whole:
            (folder / COMPLETE).touch()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-15").exists()
    assert last_checkpoint(tmp_path / "nowhere") is None


def test_the_step_after_a_stop_that_only_a_resumed_run_takes_is_left_out() -> None:
    from transformers import TrainerState

    trained = [{"step": step, "loss": 3.0 - step / 10} for step in range(1, 14)]
    validated = [{"step": step, "eval_loss": loss} for step, loss in ((4, 2), (8, 2.1), (12, 2.2))]
    history = sorted(trained + validated, key=lambda entry: entry["step"])
    state = TrainerState(
        log_history=history, global_step=13, max_steps=40, best_metric=2.0, best_global_step=4
    )
    figures = _figures(state, patience=2)
    assert figures["steps"] == 12
    assert figures["losses"]["train"][-1] == (12, 1.8)
    assert _figures(state, patience=3)["steps"] == 13
