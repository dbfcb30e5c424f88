from __future__ import annotations

from pathlib import Path

import pytest

from residency.errors import ModelError
from residency.models.folder import check


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files by name alone: the check reads only the template."""
    for name in ("config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"):
        (tmp_path / name).write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer"),
        ("model.safetensors", "no weights"),
        ("chat_template.jinja", "no chat template"),
    ],
)
def test_what_is_missing_is_named(folder: Path, lost: str, words: str) -> None:
    check(folder)
    (folder / lost).unlink()
    with pytest.raises(ModelError, match=words) as caught:
        check(folder)
    assert caught.value.hint


def test_a_template_may_stand_in_the_tokenizers_config(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    config = folder / "tokenizer_config.json"
    config.write_text('{"chat_template": "{{ messages }}"}')
    check(folder)
    config.write_text("{")
    with pytest.raises(ModelError, match="broken JSON"):
        check(folder)
