"""`residency explain` on a workspace whose chain has run: its own model, and its own build."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from residency import releases
from residency.builds import read_build
from residency.models.chat import load_tokenizer, render
from residency.store import Store
from residency.traffic.store import FILE_NAME, TrafficStore
from residency.types import Message
from tests.e2e.conftest import residency, rows
from tests.watch.exchanges import served

TEXT = "The chef tasted the soup and added a pinch of"
pytestmark = pytest.mark.slow


def merged(folder: Path) -> Path:
    """What the current release was made from, as a folder of transformers."""
    store = Store(folder)
    made = releases.made_beside(store, releases.current(store), "merged").path
    return made / read_build(made).file


def shares(model: Path, ids: Sequence[int]) -> Any:
    """What transformers itself says is next after each of `ids`: (tokens, vocabulary)."""
    import torch
    from transformers import AutoModelForCausalLM

    opened: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.no_grad():
        return opened(torch.tensor([list(ids)])).logits[0].softmax(dim=-1)


def test_the_model_is_the_merged_one_behind_the_release(chain) -> None:
    folder, _ = chain
    found = json.loads(residency("explain", TEXT, "--workspace", folder, "--json").stdout)
    assert found["model"]["name"] == releases.current(Store(folder)).name
    path = merged(folder)
    right = shares(path, load_tokenizer(path)(TEXT)["input_ids"])[-1]
    (text,) = found["texts"]
    assert text["next"][0]["id"] == int(right.argmax())
    assert text["next"][0]["share"] == pytest.approx(float(right.max()), rel=1e-3)


def test_an_exchange_is_compared_with_the_served_build(chain) -> None:
    folder, said = chain
    row = rows()[7]
    exchange = served(0, row["prompt"], row["completion"], time=time.time())
    store = TrafficStore(Store(folder).root / FILE_NAME)
    store.add([exchange])
    store.close()
    done = residency("explain", "--exchange", exchange.id, "--workspace", folder, "--json")
    found = json.loads(done.stdout)

    path = merged(folder)
    said_by = ("system", "Desk."), ("user", row["prompt"]), ("assistant", row["completion"])
    messages = [Message(role=role, content=text) for role, text in said_by]
    whole = render(load_tokenizer(path), messages, answer=True)
    start, answer = whole.learnt.index(True), found["answer"]
    assert [one["piece"]["id"] for one in answer] == list(whole.ids[start:])
    right = shares(path, whole.ids[:-1])[start - 1 :]
    for place, one in enumerate(answer):
        assert one["share"] == pytest.approx(float(right[place, one["piece"]["id"]]), rel=1e-3)
        assert one["build"]["divergence"] >= 0
    # The release is of four bits, which no layer comes through unchanged.
    assert found["build"] == said["release"] == "Q4_K_M"
    assert sum(one["build"]["divergence"] for one in answer) > 0
    assert 0 < found["trained"] < len(rows())
    # The question is a row of the data file: it, or one about the same thing, is the nearest.
    assert row["prompt"].split()[-1] in found["rows"][0]["question"]
    assert Path(found["page"]).read_text().startswith("<!doctype html>")
