"""How a conversation becomes token ids. Data, training, gate and fingerprint all render here."""

from __future__ import annotations

import dataclasses
import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residency.errors import ModelError
from residency.types import Message, Tools, arguments_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_A_TOOL = {
    "type": "function",
    "function": {"name": "probe", "description": "", "parameters": {"type": "object"}},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """`learnt[i]` is true where `ids[i]` is a token of the answer or the token that ends it."""

    text: str
    ids: tuple[int, ...]
    learnt: tuple[bool, ...]


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, from its files alone."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises Exception itself, transformers whatever it meets
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ModelError(
            f"{folder}: the tokenizer cannot be loaded: {reason}", hint="fetch the model again"
        ) from None


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    answer: bool,
    tools: Tools = (),
) -> Rendered:
    """`messages` through the tokenizer's chat template, with `tools` where it has a place for them.

    With `answer` the last message is the answer: the text ends with the token that ends its turn,
    and what a template writes after that token (SmolLM2's: a newline) is cut off, as no model
    ever has to say it. Without, the text is a prompt that ends where the model is to go on, and
    nothing is learnt. Raises `ModelError` when the template does not lend itself to that.
    """
    turns = messages[:-1] if answer else messages
    prompt = apply(tokenizer, turns, prompt=True, tools=tools)
    head = _tokenize(tokenizer, prompt)
    if not answer:
        return Rendered(text=prompt, ids=head, learnt=(False,) * len(head))
    text = prompt + _answer_part(tokenizer, messages, prompt, tools)
    ids = _tokenize(tokenizer, text)
    if ids[: len(head)] != head:
        start = messages[-1].said[:20]
        raise _template_error(tokenizer, f"the answer {start!r} melts into the prompt's last token")
    learnt = tuple(position >= len(head) for position in range(len(ids)))
    return Rendered(text=text, ids=ids, learnt=learnt)


def render_turns(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: Tools = ()
) -> Rendered:
    """The same with every answer of the conversation learnt, each with the token that ends it.

    Raises `ModelError` where the template writes an answer otherwise once the talk goes on.
    """
    whole = render(tokenizer, messages, answer=True, tools=tools)
    learnt = list(whole.learnt)
    for end, message in enumerate(messages[:-1], 1):
        if message.role != "assistant":
            continue
        part = render(tokenizer, messages[:end], answer=True, tools=tools)
        if whole.ids[: len(part.ids)] != part.ids:
            start = message.said[:20]
            raise _template_error(tokenizer, f"it rewrites the answer {start!r} later in a talk")
        for position in range(part.learnt.index(True), len(part.ids)):
            learnt[position] = True
    return Rendered(text=whole.text, ids=whole.ids, learnt=tuple(learnt))


def without_oldest(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], most: int, tools: Tools = ()
) -> tuple[Message, ...] | None:
    """`messages` without as many of their oldest turns as it takes to fit in `most` tokens.

    What the system says, the last question and the answer stay. None where they are too long.
    """
    opening, asked = _opening(messages), _questions(messages)
    for start in (opening, *asked):
        kept = (*messages[:opening], *messages[start:])
        if len(render(tokenizer, kept, answer=True, tools=tools).ids) <= most:
            return kept
    return None


def shorten(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], most: int, tools: Tools = ()
) -> tuple[Message, ...] | None:
    """The same, and where that is not enough without the beginning of the last question. The
    answer is never cut: None where it is too long by itself."""
    if kept := without_oldest(tokenizer, messages, most, tools):
        return kept
    if not (asked := _questions(messages)):
        return None
    question = messages[asked[-1]]
    head, tail = messages[: _opening(messages)], messages[asked[-1] + 1 :]

    def cut(at: int) -> tuple[Message, ...]:
        return (*head, dataclasses.replace(question, content=question.content[at:]), *tail)

    def fits(at: int) -> bool:
        return len(render(tokenizer, cut(at), answer=True, tools=tools).ids) <= most

    at = bisect_left(range(len(question.content)), True, key=fits)
    return cut(at) if at < len(question.content) else None


def _opening(messages: Sequence[Message]) -> int:
    return next((i for i, m in enumerate(messages) if m.role != "system"), 0)


def _questions(messages: Sequence[Message]) -> list[int]:
    return [i for i, m in enumerate(messages) if m.role == "user"]


def stop_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The tokens that end an answer: the one the template writes, then the tokenizer's own."""
    probe = (Message(role="user", content="1"), Message(role="assistant", content="2"))
    text = render(tokenizer, probe, answer=True).text
    ending = max((s for s in _special(tokenizer) if text.endswith(s)), key=len)
    eos = str(tokenizer.eos_token) if tokenizer.eos_token else ending
    return tuple(dict.fromkeys((ending, eos)))


def takes_tools(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template shows the model the tools that it may call."""
    asked = (Message(role="user", content="1"),)
    without, having = (apply(tokenizer, asked, prompt=True, tools=t) for t in ((), (_A_TOOL,)))
    return without != having


def _answer_part(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], prompt: str, tools: Tools
) -> str:
    """What follows the prompt, up to and with the first special token after the answer."""
    whole = apply(tokenizer, messages, prompt=False, tools=tools)
    if not whole.startswith(prompt):
        raise _template_error(tokenizer, "a conversation does not begin with its own prompt")
    rest = whole[len(prompt) :]
    after = _end_of_words(tokenizer, messages[-1], rest)
    ends = [
        (at, -len(token), token)
        for token in _special(tokenizer)
        if (at := rest.find(token, after)) >= 0
    ]
    if not ends:
        raise _template_error(tokenizer, "no special token ends an answer, so none would be learnt")
    at, _, token = min(ends)
    return rest[: at + len(token)]


def _end_of_words(tokenizer: PreTrainedTokenizerBase, answer: Message, rest: str) -> int:
    """Where in `rest` the answer's last word ends, be it text or a part of a tool call."""
    text = answer.content.strip()
    start = rest.find(text)
    if start < 0:
        raise _template_error(tokenizer, "it changes the answer")
    after = start + len(text)
    for call in answer.extra.get("tool_calls", ()):
        function = _parsed(call).get("function", {})
        name = str(function.get("name", ""))
        if name not in rest:
            raise _template_error(tokenizer, f"it leaves out the call of the tool {name!r}")
        words = [name, *_leaves(function.get("arguments", {}))]
        after = max(after, *(rest.rfind(word) + len(word) for word in words if word in rest))
    return after


def _leaves(value: Any) -> list[str]:
    """The keys and values of a call's arguments, as JSON writes them."""
    if isinstance(value, dict):
        return [text for key, one in value.items() for text in (str(key), *_leaves(one))] or ["{}"]
    if isinstance(value, list):
        return [text for one in value for text in _leaves(one)]
    written = json.dumps(value, ensure_ascii=False)
    return [written[1:-1] if isinstance(value, str) else written]


def _parsed(call: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call whose arguments are an object, as the templates of the hub want them."""
    function = call.get("function", {})
    return {**call, "function": {**function, "arguments": arguments_of(function)}}


def _turn(message: Message) -> dict[str, Any]:
    turn = message.to_dict()
    if calls := turn.get("tool_calls"):
        turn["tool_calls"] = [_parsed(call) for call in calls]
    return turn


def apply(tokenizer: Any, messages: Sequence[Message], *, prompt: bool, tools: Tools = ()) -> str:
    """The text of the chat template, with `prompt` up to where an answer begins.

    Raises `ModelError` where it refuses the conversation.
    """
    from jinja2 import TemplateError

    turns = [_turn(message) for message in messages]
    try:
        return str(
            tokenizer.apply_chat_template(
                turns, tools=list(tools) or None, tokenize=False, add_generation_prompt=prompt
            )
        )
    except (TemplateError, TypeError, ValueError) as error:
        raise _template_error(tokenizer, f"it refuses a conversation: {error}") from None


def _tokenize(tokenizer: Any, text: str) -> tuple[int, ...]:
    # The template writes every special token itself, also the first one.
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


@lru_cache(maxsize=2)  # Gemma has 6,249 of them, and transformers makes the list anew each time
def _special(tokenizer: Any) -> tuple[str, ...]:
    added = [str(t) for t in tokenizer.added_tokens_decoder.values() if t.special]
    return tuple(dict.fromkeys([*added, *map(str, tokenizer.all_special_tokens)]))


def _template_error(tokenizer: Any, what: str) -> ModelError:
    return ModelError(
        f"{tokenizer.name_or_path}: chat template: {what}",
        hint="look at its chat_template.jinja, or take another base model",
    )
