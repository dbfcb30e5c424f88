from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from residency.models import carried
from residency.store import sha256_file


def test_the_gguf_is_the_one_that_was_released(base_gguf: Path) -> None:
    assert sha256_file(base_gguf) == carried.MODELS["SmolLM2-135M-Instruct"].sha256


def test_the_plain_template_writes_turns_in_words() -> None:
    turns = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    text = jinja2.Template(carried.PLAIN_TEMPLATE).render(
        messages=turns, bos_token="<bos>", eos_token="<eos>", add_generation_prompt=True
    )
    assert text == (
        "<bos>Instruction:\nBe short.\n\nUser:\nHi\n\nAssistant:\nHello<eos>\n\nUser:\nBye\n\n"
        "Assistant:\n"
    )


@pytest.mark.slow
def test_a_model_in_parts_is_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIDENCY_HOME", str(tmp_path))
    whole = carried.gguf("gemma-3-270m")
    assert sha256_file(whole) == carried.MODELS["gemma-3-270m"].sha256
