from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import Any

import pytest

from residency.engines.base import EngineSpec
from residency.engines.client import EngineClient
from residency.engines.llama_cpp import LlamaCpp
from residency.errors import ModelError
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer, render, stop_tokens
from residency.types import Message

ASK = Message(role="user", content="Is it open on 24 December?")
ANSWER = Message(role="assistant", content='{"open": false}')


@pytest.fixture(scope="module")
def tokenizer(base: BaseModel) -> Any:
    return load_tokenizer(base.path)


@pytest.fixture
def with_template(tokenizer: Any) -> Any:
    """The tokenizer with another template."""

    def make(template: str) -> Any:
        other = copy.deepcopy(tokenizer)
        other.chat_template = template
        return other

    return make


def _learnt(tokenizer: Any, messages: tuple[Message, ...]) -> str:
    rendered = render(tokenizer, messages, answer=True)
    assert len(rendered.ids) == len(rendered.learnt)
    pairs = zip(rendered.ids, rendered.learnt, strict=True)
    return str(tokenizer.decode([token for token, learnt in pairs if learnt]))


def test_the_answer_and_its_end_are_learnt(tokenizer: Any) -> None:
    rendered = render(tokenizer, (ASK, ANSWER), answer=True)
    assert rendered.text.endswith('<|im_start|>assistant\n{"open": false}<|im_end|>')
    assert rendered.text.startswith("<|im_start|>system\n")
    assert _learnt(tokenizer, (ASK, ANSWER)) == '{"open": false}<|im_end|>'
    assert tokenizer.decode(rendered.ids) == rendered.text


def test_a_prompt_is_the_beginning_of_the_whole(tokenizer: Any) -> None:
    prompt = render(tokenizer, (ASK,), answer=False)
    whole = render(tokenizer, (ASK, ANSWER), answer=True)
    assert prompt.text.endswith("<|im_start|>assistant\n")
    assert not any(prompt.learnt)
    assert whole.ids[: len(prompt.ids)] == prompt.ids
    assert whole.learnt.count(False) == len(prompt.ids)


def test_of_several_turns_only_the_last_answer_is_learnt(tokenizer: Any) -> None:
    system = Message(role="system", content="Front desk.")
    first = Message(role="assistant", content="Until noon.")
    turns = (system, ASK, first, Message(role="user", content="好的，谢谢"), ANSWER)
    assert _learnt(tokenizer, turns) == '{"open": false}<|im_end|>'


def test_an_answer_with_a_stop_token_inside_is_learnt_to_its_end(tokenizer: Any) -> None:
    odd = Message(role="assistant", content="a<|im_end|>b")
    assert _learnt(tokenizer, (ASK, odd)) == "a<|im_end|>b<|im_end|>"


def test_stop_tokens(tokenizer: Any, with_template: Any) -> None:
    assert stop_tokens(tokenizer) == ("<|im_end|>",)
    other = with_template(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}<|endoftext|>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    assert stop_tokens(other) == ("<|endoftext|>", "<|im_end|>")


PLAIN = "{% for m in messages %}<|im_start|>{{ m.role }}\n"
END = "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def test_only_the_first_token_after_the_answer_is_learnt(with_template: Any) -> None:
    other = with_template(PLAIN + "{{ m.content }}<|im_end|>\n<|endoftext|>" + END)
    assert _learnt(other, (ASK, ANSWER)) == '{"open": false}<|im_end|>'


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (PLAIN + "{{ m.content }}\n" + END, "no special token ends an answer"),
        (PLAIN + "{{ m.content | upper }}<|im_end|>" + END, "it changes the answer"),
        (PLAIN + "{{ loop.length }}{{ m.content }}<|im_end|>" + END, "its own prompt"),
        ("{{ raise_exception('roles must alternate') }}", "refuses .* roles must alternate"),
        (PLAIN.replace("\n", "") + "{{ m.content }}<|im_end|>" + END.replace("\n", ""), "melts"),
        ("{% for %}", "refuses a conversation"),
    ],
)
def test_a_template_that_does_not_lend_itself(
    with_template: Any, template: str, words: str
) -> None:
    word = Message(role="assistant", content="ship")
    with pytest.raises(ModelError, match=rf"chat template: .*{words}"):
        render(with_template(template), (ASK, word), answer=True)


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match="tokenizer cannot be loaded"):
        load_tokenizer(tmp_path)


def test_llama_cpp_tokenizes_as_training_does(tokenizer: Any, base_gguf: Path) -> None:
    texts = [
        "2025-11-24 at 10:30, room 12345, 2/5  2/5",
        "don't DON'T we'LL\r\n\n\n  x\t\ty   ",
        "¿Mañana? 你好，请问明天几点开门？ ٣٤٥ ½ ² 🙂👍🏽",
        render(tokenizer, (ASK, ANSWER), answer=True).text,
    ]

    async def theirs(url: str, key: str) -> list[list[int]]:
        async with EngineClient(url, key) as client:
            return [await client.tokenize(text) for text in texts]

    spec = EngineSpec(model=base_gguf, alias="base", context=256, slots=1, threads=1)
    with LlamaCpp(spec) as engine:
        found = asyncio.run(theirs(engine.url, engine.key))
    assert found == [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
