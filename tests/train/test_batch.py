from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer
from residency.train import batch
from residency.train.batch import IGNORED, Batches, shared_prefix
from residency.train.rows import encode
from residency.train.trainer import answer_loss
from tests.train.test_trainer import conversation

QUESTIONS = (
    ("Where are you?", "reception"),
    ("My bill is wrong, and nobody answers the phone.", "bill"),
    ("When?", "hours"),
)


def row(ids: list[int], learnt_from: int) -> dict[str, list[int]]:
    return {"input_ids": ids, "labels": [IGNORED] * learnt_from + ids[learnt_from:]}


def test_the_shared_beginning_ends_where_rows_part() -> None:
    assert shared_prefix([row([1, 2, 3, 4, 9], 4), row([1, 2, 5, 4, 9], 4)]) == 2
    assert shared_prefix([row([7, 2, 9], 2), row([1, 2, 9], 2)]) == 0


def test_the_token_before_an_answer_stays_with_its_row() -> None:
    """It predicts the answer's first token, which differs from row to row."""
    assert shared_prefix([row([1, 2, 3, 8], 3), row([1, 2, 3, 9], 3)]) == 2


@settings(deadline=None)  # the first case imports torch
@given(st.lists(st.lists(st.integers(1, 9), min_size=3, max_size=8), min_size=1, max_size=5))
def test_every_learnt_token_is_learnt_once(own: list[list[int]]) -> None:
    rows = [row([5, 5, *ids], 2 + len(ids) - 1) for ids in own]
    made = Batches(shared_prefix(rows))(rows)
    learnt = made["labels"][made["labels"] != IGNORED].tolist()
    assert sorted(learnt) == sorted(ids[-1] for ids in own)


@pytest.mark.parametrize("limit", [1024, 0], ids=["one sequence", "side by side"])
def test_loss_and_gradient_are_those_of_padded_rows(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Against transformers' own loss, which makes logits at every position of padded rows."""
    import torch
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(batch, "_ONE_SEQUENCE", limit)
    tokenizer = load_tokenizer(base.path)
    rows = list(encode(tokenizer, [conversation(*one) for one in QUESTIONS]))
    model: Any = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    weight = model.model.layers[3].mlp.up_proj.weight
    prefix = shared_prefix(rows)
    ours = answer_loss(model, Batches(prefix)(rows))
    theirs = model(**padded(rows)).loss
    assert prefix > 5
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-4)
    mine, its = (torch.autograd.grad(loss, weight)[0] for loss in (ours, theirs))
    assert torch.allclose(mine, its, rtol=1e-3, atol=1e-5)


def padded(rows: list[dict[str, list[int]]]) -> dict[str, Any]:
    import torch

    width = max(len(r["input_ids"]) for r in rows)
    fill = {"input_ids": 2, "labels": IGNORED, "attention_mask": 0}
    whole = [{**r, "attention_mask": [1] * len(r["input_ids"])} for r in rows]
    return {
        name: torch.tensor([r[name] + [value] * (width - len(r[name])) for r in whole])
        for name, value in fill.items()
    }
