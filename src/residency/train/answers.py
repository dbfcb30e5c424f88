"""What is wrong with what a trained model answers, as far as texts can tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

from rapidfuzz.distance import LCSseq

from residency.refusals import refuses
from residency.repetition import repeats
from residency.train.causes import Finding
from residency.words import words

_FEW_WORDS = 4  # of so few nothing is told
_UNKNOWN, _ECHOED, _SHORT = 0.5, 0.8, 0.5
_CHANCE = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A row of the validation split: what was to be said, and what the model said before training
    and says after. `ended` is false where a limit cut off the answer after."""

    source: str
    question: str
    reference: str
    before: str
    after: str
    ended: bool


def check(examples: Sequence[Example], known: frozenset[str]) -> list[Finding]:
    """What is wrong with the answers after training; `known` are the words of the training rows."""

    def count(name: str, bad: Callable[[Example], bool], what: str, remedy: str) -> list[Finding]:
        found = [one.source for one in examples if bad(one)]
        if not found:
            return []
        told = f"{len(found)} of {len(examples)} answers {what}"
        return [
            Finding(
                name=name,
                count=len(found),
                total=len(examples),
                words=told,
                remedy=remedy,
                rows=tuple(found),
            )
        ]

    return [
        *count(
            "random tokens",
            lambda one: is_random(one, known),
            "are words that stand neither in the question nor in any training row",
            "look at the template and at what is learnt: residency data preview",
        ),
        *count(
            "repeated instruction",
            lambda one: echoes(one.question, one.after) and not echoes(one.question, one.reference),
            "repeat the question",
            "give rows more: the model goes on with the question instead of answering it",
        ),
        *count(
            "short answers",
            lambda one: one.ended and is_short(one),
            "have less than half of the words of the right answer",
            "see that the answers in the data are whole; at the endpoint, raise max_tokens",
        ),
        *count(
            "unended answers",
            lambda one: not one.ended,
            "come to no end where the right answer would have",
            "train longer, or see that the end of an answer is learnt: residency data preview",
        ),
        *count(
            "refusals",
            lambda one: refuses(one.after) and not refuses(one.reference),
            "refuse what the right answer answers",
            "look for refusals in the training rows",
        ),
        *count(
            "loops",
            lambda one: repeats(one.after),
            "repeat themselves until the limit",
            "lower learning_rate or epochs in [train], and look for such answers in the data",
        ),
    ]


def forgotten(before: Sequence[bool], after: Sequence[bool]) -> list[Finding]:
    """Whether the trained model answers fewer general questions than the base model did.

    By the one-sided sign test over the questions that only one of them has right.
    """
    lost = sum(had and not has for had, has in zip(before, after, strict=True))
    won = sum(has and not had for had, has in zip(before, after, strict=True))
    decided = lost + won
    chance = sum(comb(decided, n) for n in range(lost, decided + 1)) / 2**decided
    if chance >= _CHANCE:
        return []
    return [
        Finding(
            name="forgetting",
            count=lost,
            total=len(before),
            words=f"of {len(before)} general questions the base model had {sum(before)} right, the "
            f"trained one has {sum(after)}",
            remedy="no matter for a model that is asked its task alone; else lower learning_rate "
            "or rank, or put general rows among the data",
        )
    ]


def is_random(one: Example, known: frozenset[str]) -> bool:
    """Whether most words of the answer are known from nowhere."""
    said = words(one.after)
    if len(said) < _FEW_WORDS:
        return False
    heard = known.union(words(one.question), words(one.reference))
    return sum(word not in heard for word in said) > _UNKNOWN * len(said)


def echoes(question: str, answer: str) -> bool:
    """Whether `answer` has most words of `question`, in their order."""
    asked = words(question)
    shared = int(LCSseq.similarity(asked, words(answer)))
    return len(asked) > _FEW_WORDS and shared >= _ECHOED * len(asked)


def is_short(one: Example) -> bool:
    """Whether the answer lacks half of the words that the right one has."""
    wanted = len(words(one.reference))
    return wanted > _FEW_WORDS and len(words(one.after)) < _SHORT * wanted
