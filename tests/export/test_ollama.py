from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from residency.errors import InputError
from residency.export.ollama import turns, write_modelfile
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer, render
from residency.types import Message
from tests.serve.releases import release
from tests.specialist import TOKENIZER_FILES, conversations

BUILD = release().build
PLAIN = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}" \
    "{% if add_generation_prompt %}[assistant]{% endif %}"  # fmt: skip


def with_template(base: BaseModel, folder: Path, template: str) -> Any:
    for name in TOKENIZER_FILES:
        shutil.copyfile(base.path / name, folder / name)
    (folder / "chat_template.jinja").write_text(template.replace("</s>", "<|im_end|>"))
    return load_tokenizer(folder)


def test_the_template_in_go_renders_what_the_models_own_does(base: BaseModel) -> None:
    tokenizer = load_tokenizer(base.path)
    found = turns(tokenizer)
    assert found
    talk = tuple(
        Message(role=role, content=f"{role} 我") for role in ("user", "assistant", "user", "user")
    )
    for messages in (talk, (Message(role="system", content="S"), *talk)):
        assert found.render(messages) == render(tokenizer, messages, answer=False).text
    assert found.go() == (
        '{{ if ne (index .Messages 0).Role "system" }}'
        '{{ "<|im_start|>system\\nYou are a helpful AI '
        'assistant named SmolLM, trained by Hugging Face<|im_end|>\\n" }}{{ end }}'
        '{{ range .Messages }}{{ if eq .Role "system" }}{{ "<|im_start|>system\\n" }}{{ .Content }}'
        '{{ "<|im_end|>\\n" }}{{ else if eq .Role "user" }}'
        '{{ "<|im_start|>user\\n" }}{{ .Content }}'
        '{{ "<|im_end|>\\n" }}{{ else if eq .Role "assistant" }}{{ "<|im_start|>assistant\\n" }}'
        '{{ .Content }}{{ "<|im_end|>\\n" }}{{ end }}{{ end }}{{ "<|im_start|>assistant\\n" }}'
    )


@pytest.mark.parametrize(
    "change",
    [
        ("m.content", "m.content | trim"),
        ("[{{ m.role }}]", "[{{ loop.index }}]"),
        ("</s>", "{{ '</s>' if not loop.last else '' }}"),
        ("[{{ m.role }}]", "{{ raise_exception('no') if m.role == 'system' else m.role }}"),
    ],
)
def test_a_template_that_does_more_is_left_to_ollama_and_that_is_said(
    base: BaseModel, tmp_path: Path, change: tuple[str, str]
) -> None:
    exact = tmp_path / "exact"
    exact.mkdir()
    assert turns(with_template(base, exact, PLAIN))
    tokenizer = with_template(base, tmp_path, PLAIN.replace(*change))
    assert turns(tokenizer) is None
    write_modelfile(tmp_path, BUILD, tokenizer, conversations())
    text = (tmp_path / "Modelfile").read_text()
    assert "TEMPLATE" not in text
    assert "cannot be written exactly" in text


def test_a_modelfile_asks_as_the_gate_does(base: BaseModel, tmp_path: Path) -> None:
    write_modelfile(tmp_path, BUILD, load_tokenizer(base.path), conversations())
    lines = (tmp_path / "Modelfile").read_text().splitlines()
    assert [line for line in lines if not line.startswith("TEMPLATE")] == [
        "FROM ./model.gguf",
        'PARAMETER stop "<|im_end|>"',
        "PARAMETER temperature 0",
        "PARAMETER num_ctx 2048",
        'SYSTEM """Clinic desk."""',
    ]


def test_shards_are_refused(base: BaseModel, tmp_path: Path) -> None:
    split = dataclasses.replace(BUILD, file="model")
    with pytest.raises(InputError, match="no GGUF of several files"):
        write_modelfile(tmp_path, split, load_tokenizer(base.path), [])
