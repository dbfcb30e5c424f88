"""The shapes of chat template that the hub's models have, on a tokenizer of bytes."""

from __future__ import annotations

from typing import Any

import pytest

from residency.errors import ModelError
from residency.models.base import BaseModel
from residency.models.chat import (
    load_tokenizer,
    render,
    render_turns,
    shorten,
    stop_tokens,
    takes_tools,
    without_oldest,
)
from residency.types import Message
from tests.tooled import HERMES, call, conversation, tool

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<tool_call>\n{{ call.function | tojson }}\n</tool_call>"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "<bos>{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}"
    "{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ first if loop.first else '' }}{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI3 = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}<|endoftext|>{% endif %}"
)
REWRITES = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content if loop.last or m.role == 'user' else m.content[-3:] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>"),
    *("<|system|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<bos>", "<start_of_turn>", "<end_of_turn>"),
)
SHAPES = {
    "ChatML": (CHATML, "<|im_end|>"),
    "Llama 3": (LLAMA3, "<|eot_id|>"),
    "Gemma": (GEMMA, "<end_of_turn>"),
    "Phi 3": (PHI3, "<|end|>"),
}
TALK = (
    Message(role="system", content="Desk."),
    Message(role="user", content="Is it open on Monday?"),
    Message(role="assistant", content="Until noon."),
    Message(role="user", content="好的，周二呢？"),
    Message(role="assistant", content="周二全天。"),
)
CALL = {
    "id": "call12345",
    "type": "function",
    "function": {"name": "free_slots", "arguments": '{"day": "周二", "limit": 2}'},
}


def tokenizer(template: str) -> Any:
    """Bytes are its tokens, and the special ones of all shapes."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=made, chat_template=template, eos_token="<|endoftext|>"
    )


def learnt(tokenizer: Any, rendered: Any) -> str:
    pairs = zip(rendered.ids, rendered.learnt, strict=True)
    return str(tokenizer.decode([token for token, keep in pairs if keep]))


@pytest.mark.parametrize(("template", "end"), SHAPES.values(), ids=SHAPES)
def test_the_last_answer_or_all_are_learnt_with_their_ends(template: str, end: str) -> None:
    own = tokenizer(template)
    last, every = render(own, TALK, answer=True), render_turns(own, TALK)
    assert learnt(own, last) == f"周二全天。{end}"
    assert learnt(own, every) == f"Until noon.{end}周二全天。{end}"
    assert every.ids == last.ids
    assert "Desk." in last.text
    assert stop_tokens(own)[0] == end


def test_a_template_that_rewrites_earlier_answers_is_refused() -> None:
    with pytest.raises(ModelError, match=r"rewrites the answer 'Until noon\.' later"):
        render_turns(tokenizer(REWRITES), TALK)


def test_a_call_of_a_tool_is_learnt_to_its_end() -> None:
    own = tokenizer(CHATML)
    asks = Message(role="assistant", content="", extra={"tool_calls": [CALL]})
    found = learnt(own, render(own, (*TALK[:2], asks), answer=True))
    assert found == (
        '<tool_call>\n{"name": "free_slots", "arguments": {"day": "周二", "limit": 2}}'
        "\n</tool_call><|im_end|>"
    )
    result = Message(role="tool", content="[9, 11]", extra={"tool_call_id": CALL["id"]})
    talk = (*TALK[:2], asks, result, TALK[2])
    both = learnt(own, render_turns(own, talk))
    assert both == f"{found}Until noon.<|im_end|>"


def test_the_tools_of_a_row_are_read_and_not_learnt() -> None:
    own = tokenizer(HERMES)
    one = conversation("Free on Tuesday?", call(day="Tuesday", limit=2))
    found = render(own, one.messages, answer=True, tools=one.tools)
    assert '{"type": "function", "function": {"name": "free_slots"' in found.text
    without = render(own, one.messages, answer=True)
    assert "<tools>" not in without.text
    assert learnt(own, found) == learnt(own, without)
    assert learnt(own, found) == (
        '<tool_call>\n{"name": "free_slots", "arguments": {"day": "Tuesday", "limit": 2}}'
        "\n</tool_call><|im_end|>"
    )
    assert render_turns(own, one.messages, one.tools) == found


def test_tools_take_room() -> None:
    own, tools = tokenizer(HERMES), [tool()]
    whole = len(render(own, TALK, answer=True, tools=tools).ids)
    assert shorten(own, TALK, whole, tools) == TALK
    assert without_oldest(own, TALK, whole - 1, tools) == (TALK[0], *TALK[3:])
    assert without_oldest(own, TALK, whole - 1) == TALK


def test_whether_a_template_has_a_place_for_tools(base: BaseModel) -> None:
    assert takes_tools(tokenizer(HERMES))
    assert not takes_tools(tokenizer(CHATML))
    assert not takes_tools(load_tokenizer(base.path))


def test_a_template_that_leaves_out_tools_is_refused() -> None:
    asks = Message(role="assistant", content="", extra={"tool_calls": [CALL]})
    with pytest.raises(ModelError, match="leaves out the call of the tool 'free_slots'"):
        render(tokenizer(LLAMA3), (*TALK[:2], asks), answer=True)


def test_the_oldest_turns_go_first_then_the_beginning_of_the_question() -> None:
    own = tokenizer(CHATML)

    def length(messages: tuple[Message, ...]) -> int:
        return len(render(own, messages, answer=True).ids)

    whole = length(TALK)
    assert shorten(own, TALK, whole) == TALK
    without_first = shorten(own, TALK, whole - 1)
    assert without_first == (TALK[0], *TALK[3:])
    cut = shorten(own, TALK, length(without_first) - 1)
    assert cut is not None
    assert cut[1].content == "的，周二呢？"
    assert (cut[0], cut[-1]) == (TALK[0], TALK[-1])
    assert shorten(own, TALK, length((TALK[0], TALK[-1])) - 5) is None


def test_a_question_is_cut_no_more_than_it_must() -> None:
    own = tokenizer(CHATML)
    long = (Message(role="user", content="word " * 500), TALK[2])
    kept = shorten(own, long, 300)
    assert kept is not None
    assert len(render(own, kept, answer=True).ids) == 300
    assert long[0].content.endswith(kept[0].content)
