"""Our rendering held against mistral-common, which is Mistral's own, token by token."""

from __future__ import annotations

import base64
import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from residency.errors import ModelError
from residency.models.chat import load_tokenizer, render, render_turns
from residency.types import Message

# The templates that the model's folders have on the hub, without their checks of roles.
START = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}"
END = "{% endfor %}"
V1 = (
    START + "{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}"
    "{% endif %}" + END
)
V3 = (
    "{{ bos_token }}{% set last = (messages | selectattr('role', 'equalto', 'user') | list)[-1] %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% if tools is not none and m == last %}"
    "{{ '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{% endif %}"
    "{{ '[INST] ' + m.content + '[/INST]' }}"
    "{% elif m.role == 'tool' %}"
    '{{ \'[TOOL_RESULTS] {"content": \' + m.content + \', "call_id": "\' + m.tool_call_id }}'
    "{{ '\"}[/TOOL_RESULTS]' }}"
    "{% elif m.tool_calls %}{{ '[TOOL_CALLS] [' }}{% for call in m.tool_calls %}"
    "{{ '{\"name\": ' + call.function.name | tojson + ', \"arguments\": ' }}"
    "{{ call.function.arguments | tojson + ', \"id\": \"' + call.id + '\"}' }}"
    "{% if not loop.last %}{{ ', ' }}{% endif %}{% endfor %}{{ ']' + eos_token }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}" + END
)
TEKKEN = (
    START + "{{ '[INST]' + m.content + '[/INST]' }}{% else %}{{ m.content + eos_token }}"
    "{% endif %}" + END
)
TALK = (
    Message(role="user", content="Is it open on Monday? 2/5"),
    Message(role="assistant", content='{"open": true}'),
    Message(role="user", content="好的，周二呢？\n\n¿Y el martes?"),
    Message(role="assistant", content="周二全天。 All day."),
)
CALL = {
    "id": "call12345",
    "type": "function",
    "function": {"name": "free_slots", "arguments": '{"day": "Tuesday", "limit": 2}'},
}
TOOLS = (
    TALK[0],
    Message(role="assistant", content="", extra={"tool_calls": [CALL]}),
    Message(role="tool", content="[9, 11]", extra={"tool_call_id": "call12345"}),
    Message(role="assistant", content="At nine and at eleven."),
)
SLOTS = {
    "type": "function",
    "function": {
        "name": "free_slots",
        "description": "Free hours of a day, 空闲",
        "parameters": {"type": "object", "properties": {"day": {"type": "string"}}},
    },
}
TEKKEN_SPECIAL = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]")
DATA = Path(str(resources.files("mistral_common"))) / "data"
SENTENCEPIECE = {
    "v1": ("tokenizer.model.v1", V1, True),
    "v3": ("mistral_instruct_tokenizer_240323.model.v3", V3, False),
}


def of_the_hub(folder: Path, model: Path, template: str, spaced: bool) -> Any:
    """Mistral's SentencePiece model in a folder as the hub has it; `spaced` as its first had, with
    a space before what follows a special token."""
    (folder / "tokenizer.model").write_bytes(model.read_bytes())
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "chat_template": template,
        "legacy": spaced,
        "add_prefix_space": spaced,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return load_tokenizer(folder)


def of_tekken(file: Path, template: str) -> Any:
    """A tokenizer of the hub's kind from Tekken's file: special tokens first, then a byte-level
    BPE, whose merges follow from the ranks."""
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    values = json.loads(file.read_text(encoding="utf-8"))
    config = values["config"]
    special = config["default_num_special_tokens"]

    class Converter(TikTokenConverter):  # type: ignore[misc]
        @staticmethod
        def load_tiktoken_bpe(_: str) -> dict[bytes, int]:
            kept = values["vocab"][: config["default_vocab_size"] - special]
            return {base64.b64decode(t["token_bytes"]): t["rank"] + special for t in kept}

    made = Converter("", pattern=config["pattern"]).converted()
    names = [*TEKKEN_SPECIAL, *(f"<SPECIAL_{i}>" for i in range(len(TEKKEN_SPECIAL), special))]
    body = json.loads(made.to_str())
    body["model"]["vocab"] |= {name: i for i, name in enumerate(names)}
    made = made.from_str(json.dumps(body))
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", chat_template=template
    )


def theirs(model: Path, messages: tuple[Message, ...], tools: Any = None) -> list[int]:
    """The token ids of a conversation to train on, from mistral-common."""
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.protocol.instruct.validator import ValidationMode
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    own = MistralTokenizer.from_file(str(model), mode=ValidationMode.finetuning)
    turns = [message.to_dict() for message in messages]
    request = ChatCompletionRequest(messages=turns, tools=tools)
    return list(own.encode_chat_completion(request).tokens)


def learnt(tokenizer: Any, rendered: Any) -> str:
    pairs = zip(rendered.ids, rendered.learnt, strict=True)
    return str(tokenizer.decode([token for token, keep in pairs if keep]))


@pytest.mark.parametrize(("file", "template", "spaced"), SENTENCEPIECE.values(), ids=SENTENCEPIECE)
def test_a_conversation_has_the_tokens_of_mistral(
    tmp_path: Path, file: str, template: str, spaced: bool
) -> None:
    tokenizer = of_the_hub(tmp_path, DATA / file, template, spaced)
    assert list(render(tokenizer, TALK, answer=True).ids) == theirs(DATA / file, TALK)
    every = render_turns(tokenizer, TALK)
    assert learnt(tokenizer, every).count("</s>") == 2


def test_calls_of_tools_have_the_tokens_of_mistral(tmp_path: Path) -> None:
    file = DATA / SENTENCEPIECE["v3"][0]
    tokenizer = of_the_hub(tmp_path, file, V3, False)
    every = render_turns(tokenizer, TOOLS)
    assert list(every.ids) == theirs(file, TOOLS)
    said = learnt(tokenizer, every)
    assert said.startswith("[TOOL_CALLS]")
    assert '"id": "call12345"}]</s>' in said
    assert said.endswith("At nine and at eleven.</s>")
    with_tools = render_turns(tokenizer, TOOLS, [SLOTS])
    assert list(with_tools.ids) == theirs(file, TOOLS, [SLOTS])
    assert learnt(tokenizer, with_tools) == said
    first = render(tokenizer, TOOLS[:2], answer=True, tools=[SLOTS])
    assert list(first.ids) == theirs(file, TOOLS[:2], [SLOTS])


def test_tools_that_move_with_the_talk_are_for_the_last_answer_alone(tmp_path: Path) -> None:
    """Mistral writes them before the last question: in a talk's middle no earlier answer saw them
    where they now stand."""
    file = DATA / SENTENCEPIECE["v3"][0]
    tokenizer = of_the_hub(tmp_path, file, V3, False)
    last = render(tokenizer, TALK, answer=True, tools=[SLOTS])
    assert list(last.ids) == theirs(file, TALK, [SLOTS])
    with pytest.raises(ModelError, match="later in a talk"):
        render_turns(tokenizer, TALK, [SLOTS])


@pytest.mark.slow
def test_tekken_has_the_tokens_of_mistral() -> None:
    file = DATA / "tekken_240718.json"
    tokenizer = of_tekken(file, TEKKEN)
    rendered = render(tokenizer, TALK, answer=True)
    assert list(rendered.ids) == theirs(file, TALK)
    assert learnt(tokenizer, rendered) == "周二全天。 All day.</s>"
