"""How a conversation becomes token ids. Data, training, gate and fingerprint all render here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residency.errors import ModelError
from residency.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, answer: bool
) -> Rendered:
    """`messages` through the tokenizer's chat template.

    With `answer` the last message is the answer: the text ends with the token that ends its turn,
    and what a template writes after that token (SmolLM2's: a newline) is cut off, as no model
    ever has to say it. Without, the text is a prompt that ends where the model is to go on, and
    nothing is learnt. Raises `ModelError` when the template does not lend itself to that.
    """
    turns = messages[:-1] if answer else messages
    prompt = apply(tokenizer, turns, prompt=True)
    head = _tokenize(tokenizer, prompt)
    if not answer:
        return Rendered(text=prompt, ids=head, learnt=(False,) * len(head))
    text = prompt + _answer_part(tokenizer, messages, prompt)
    ids = _tokenize(tokenizer, text)
    if ids[: len(head)] != head:
        start = messages[-1].content[:20]
        raise _template_error(tokenizer, f"the answer {start!r} melts into the prompt's last token")
    learnt = tuple(position >= len(head) for position in range(len(ids)))
    return Rendered(text=text, ids=ids, learnt=learnt)


def stop_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The tokens that end an answer: the one the template writes, then the tokenizer's own."""
    probe = (Message(role="user", content="1"), Message(role="assistant", content="2"))
    text = render(tokenizer, probe, answer=True).text
    ending = max((s for s in _special(tokenizer) if text.endswith(s)), key=len)
    eos = str(tokenizer.eos_token) if tokenizer.eos_token else ending
    return tuple(dict.fromkeys((ending, eos)))


def _answer_part(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], prompt: str
) -> str:
    """What follows the prompt, up to and with the first special token after the answer."""
    whole = apply(tokenizer, messages, prompt=False)
    if not whole.startswith(prompt):
        raise _template_error(tokenizer, "a conversation does not begin with its own prompt")
    rest = whole[len(prompt) :]
    answer = messages[-1].content.strip()
    start = rest.find(answer)
    if start < 0:
        raise _template_error(tokenizer, "it changes the answer")
    after = start + len(answer)
    ends = [
        (at, -len(token), token)
        for token in _special(tokenizer)
        if (at := rest.find(token, after)) >= 0
    ]
    if not ends:
        raise _template_error(tokenizer, "no special token ends an answer, so none would be learnt")
    at, _, token = min(ends)
    return rest[: at + len(token)]


def apply(tokenizer: Any, messages: Sequence[Message], *, prompt: bool) -> str:
    """The text of the chat template, with `prompt` up to where an answer begins.

    Raises `ModelError` where it refuses the conversation.
    """
    from jinja2 import TemplateError

    turns = [message.to_dict() for message in messages]
    try:
        return str(
            tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
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
