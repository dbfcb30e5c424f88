from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from residency.engines.logits import Logits
from residency.errors import DataError
from residency.explain import exchange_page
from residency.explain.exchange import UNSURE, Examined, examine, nearest
from residency.explain.model import Opened, open_model
from residency.export.convert import convert
from residency.models.chat import render
from residency.types import Conversation, Message
from tests.specialist import Specialist, conversations


@pytest.fixture(scope="module")
def opened(specialist: Specialist) -> Opened:
    return open_model(specialist.base.path, "small")


@pytest.fixture(scope="module")
def gguf(specialist: Specialist, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("gguf") / "model.gguf"
    convert(specialist.base.path, target, "small")
    return target


def test_shares_are_the_models_own(opened: Opened) -> None:
    one = conversations()[2]  # Chinese
    whole = render(opened.tokenizer, one.messages, answer=True)
    start = whole.learnt.index(True)
    with torch.no_grad():
        shares = opened.model(torch.tensor([whole.ids])).logits[0].softmax(dim=-1)
    found = examine(opened, one, None)
    assert [said.piece.id for said in found] == list(whole.ids[start:])
    for place, said in enumerate(found, start):
        assert said.share == pytest.approx(float(shares[place - 1, whole.ids[place]]), rel=1e-3)
        assert said.likeliest.id == int(shares[place - 1].argmax())
        assert said.unsure == (said.share < UNSURE)
        assert said.build is None


@pytest.mark.slow
def test_the_build_is_compared_with_its_own_logits(opened: Opened, gguf: Path) -> None:
    one = conversations()[0]
    ids = list(render(opened.tokenizer, one.messages, answer=True).ids)
    found = examine(opened, one, gguf)
    start = len(ids) - len(found)
    with Logits(gguf, context=len(ids)) as logits:
        own = np.concatenate(list(logits.read(ids[:-1], start - 1)))
    with torch.no_grad():
        full = opened.model(torch.tensor([ids[:-1]])).logits[0, start - 1 :]
    build = torch.tensor(own).log_softmax(dim=-1)
    for row, said in enumerate(found):
        assert said.build is not None
        assert said.build.likeliest.id == int(own[row].argmax())
        assert said.build.share == pytest.approx(float(build[row, said.piece.id].exp()), rel=1e-3)
        right = torch.nn.functional.kl_div(
            build[row], full[row].log_softmax(dim=-1), log_target=True, reduction="sum"
        )
        assert said.build.divergence == pytest.approx(float(right), abs=1e-5)
    # A sound f16 is the same model.
    assert max(said.build.divergence for said in found if said.build) < 0.01


def test_too_long_an_exchange_is_refused(opened: Opened) -> None:
    turns = (Message(role="user", content="a b " * 1500), Message(role="assistant", content="c"))
    with pytest.raises(DataError, match=r"exchange x: \d+ tokens; at most 2048"):
        examine(opened, Conversation(messages=turns, source="exchange x"), None)


def asked(question: str, source: str = "test:0") -> Conversation:
    turns = (Message(role="user", content=question), Message(role="assistant", content="yes"))
    return Conversation(messages=turns, source=source)


def test_nearest_rows_come_first_and_near_duplicates_are_named() -> None:
    rows = [
        asked("Is the lab open?", "t:1"),
        asked("I want to pay my bill", "t:2"),
        asked("My tooth hurts since Monday!", "t:3"),
    ]
    found = nearest(asked("my tooth hurts since monday."), rows, 0.85)
    assert found[0].source == "t:3"
    assert [row.same for row in found] == [True, False, False]
    assert found[0].spelling > 0.95
    assert nearest(asked("x"), [], 0.85) == ()


@pytest.mark.slow
def test_the_page_names_what_was_unsure_and_what_differs(opened: Opened, gguf: Path) -> None:
    one = conversations()[2]
    said = examine(opened, one, gguf)
    examined = Examined(
        source="exchange <x>",
        prompt=one.prompt,
        answer=said,
        build="Q4_K_M",
        rows=nearest(one, conversations(), 0.85),
        trained=len(conversations()),
    )
    html = exchange_page.render(examined, "desk")
    assert "exchange &lt;x&gt;" in html
    assert one.question in html
    count = sum(token.unsure for token in said)
    assert count
    assert f"unsure of {count} of {len(said)} tokens" in html
    assert html.count('class="unsure ') == count
    assert "near-duplicate" in html
    assert f"unsure of {count}" in "\n".join(exchange_page.told(examined))
