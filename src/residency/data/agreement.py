"""Which answer of a teacher is to be learnt: the one that its repeats agree on, if a judge agrees.

Sampled answers that agree are right more often (Wang et al. 2023, self-consistency).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from residency.near_duplicates import canonical
from residency.types import Message

_TASK = """You check an answer to a conversation before somebody learns from it. It must answer \
what was asked, be right as far as you can tell, and keep to the form that the conversation asks \
for. Neither length nor style matters.

Conversation:
{conversation}

Answer:
{answer}

Give your reason in one sentence, and then one last line: "verdict: right" or "verdict: wrong"."""
_VERDICT = re.compile(r"verdict\W{0,6}(right|wrong)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreed:
    """The answer that most of the samples gave, as the first of them wrote it, and their share."""

    text: str
    share: float


def most_given(texts: Sequence[str]) -> Agreed:
    """What most of `texts` say; between as many, what was said first.

    JSON is compared as a value, other text without case and white space.
    """
    counts = Counter(map(canonical, texts))
    value, count = counts.most_common(1)[0]
    first = next(text for text in texts if canonical(text) == value)
    return Agreed(text=first.strip(), share=count / len(texts))


def judge_task(prompt: Sequence[Message], answer: str) -> tuple[Message, ...]:
    """What the judge is asked about `answer`."""
    said = "\n".join(f"{message.role}: {message.said}" for message in prompt)
    return (Message(role="user", content=_TASK.format(conversation=said, answer=answer)),)


def called_right(verdict: str) -> bool:
    """Whether the judge's last word is that the answer is right. No verdict is a no."""
    found = _VERDICT.findall(verdict)
    return bool(found) and found[-1].lower() == "right"
