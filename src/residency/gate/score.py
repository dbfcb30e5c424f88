"""What one answer is worth: against the reference answer, and against what f16 answered."""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from residency.types import is_call
from residency.words import words

Kind = Literal["json", "label", "text"]
Relation = Literal["exact", "similar", "different"]

LABEL_CHARACTERS = 64
LABEL_REPEATS = 3
SIMILAR_FIELDS = 0.5

KIND_WORDS: Mapping[Kind, str] = {
    "json": "JSON objects (every reference answer is one)",
    "label": (
        f"labels (reference answers have at most {LABEL_CHARACTERS} characters and occur at least "
        f"{LABEL_REPEATS} times each on average)"
    ),
    "text": "free text (reference answers are neither all JSON objects nor few repeated labels)",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseScore:
    """One answer against its reference. All numbers are in 0..1.

    `fields` (JSON only) is the share of equal fields among those that either side has; `by_field`
    says which of the reference's fields are right; `similarity` (text only) is the token F1;
    `score` is what a user's own scorer gave.
    """

    exact: bool
    valid_json: bool | None = None
    fields: float | None = None
    by_field: Mapping[str, bool] = field(default_factory=dict)
    similarity: float | None = None
    score: float | None = None


def task_kind(references: Sequence[str]) -> Kind:
    """What kind of answers a data set asks for, judged from all its reference answers."""
    if references and all(parse_object(text) is not None for text in references):
        return "json"
    folded = [fold(text) for text in references]
    short = all(len(text) <= LABEL_CHARACTERS for text in folded)
    if folded and short and len(set(folded)) * LABEL_REPEATS <= len(folded):
        return "label"
    return "text"


def score(kind: Kind, answer: str, reference: str) -> CaseScore:
    """Score `answer` against `reference` by the rules of `kind`. Where the reference is a call of a
    tool, it is compared as JSON among texts too, and the share of equal fields is its similarity.
    """
    if kind == "json":
        return _score_json(answer, reference)
    if is_call(reference):
        found = _score_json(answer, reference)
        likeness = found.fields if kind == "text" else None
        return CaseScore(exact=found.exact, by_field=found.by_field, similarity=likeness)
    exact = same(kind, answer, reference)
    if kind == "label":
        return CaseScore(exact=exact)
    return CaseScore(exact=exact, similarity=token_f1(answer, reference))


def same(kind: Kind, one: str, other: str) -> bool:
    """Whether two answers count as equal.

    JSON: the parsed objects are equal, whatever their layout and key order. Labels: equal after
    Unicode NFKC and folding of white space. Text: equal after folding of case and of final
    punctuation too. Answers that should be JSON and are not are compared as labels. Calls of tools
    are JSON objects (`calls_text`).
    """
    if kind == "json" or is_call(other):
        left, right = parse_object(one), parse_object(other)
        if left is not None and right is not None:
            return same_json(left, right)
    if kind == "text":
        return _fold_text(one) == _fold_text(other)
    return fold(one) == fold(other)


def relate(kind: Kind, answer: str, f16: str) -> Relation:
    """How a build's answer relates to what f16 answered to the same prompt.

    `exact` is `same`. `similar` is, for JSON, valid with at least half of the fields equal; labels
    are never similar, and texts are for `residency.gate.similar`. The rest is `different`.
    """
    if same(kind, answer, f16):
        return "exact"
    if kind == "json" or is_call(f16):
        ours, theirs = parse_object(answer), parse_object(f16)
        if ours is not None and theirs is not None:
            return "similar" if _equal_fields(ours, theirs) >= SIMILAR_FIELDS else "different"
    return "different"


def parse_object(text: str) -> dict[str, Any] | None:
    """The JSON object that is the whole of `text`, or None. NaN and Infinity are not JSON."""
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def same_json(one: Any, other: Any) -> bool:
    """Equality of JSON values: 1 equals 1.0, but neither equals true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def token_f1(one: str, other: str) -> float:
    """F1 of the tokens that two texts share, as in SQuAD (Rajpurkar et al. 2016), in 0..1.

    Unlike SQuAD's, articles are kept, since not every text is English.
    """
    left, right = words(one), words(other)
    if not left or not right:
        return 1.0 if fold(one) == fold(other) else 0.0
    shared = sum((Counter(left) & Counter(right)).values())
    return 2 * shared / (len(left) + len(right))


def fold(text: str) -> str:
    """Unicode NFKC with white space at the ends removed and elsewhere made single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def _fold_text(text: str) -> str:
    folded = fold(text).casefold()
    end = len(folded)
    while end and (folded[end - 1].isspace() or unicodedata.category(folded[end - 1])[0] == "P"):
        end -= 1
    return folded[:end] or folded


def _score_json(answer: str, reference: str) -> CaseScore:
    ours, right = parse_object(answer), parse_object(reference) or {}
    if ours is None:
        by_field = dict.fromkeys(right, False)
        return CaseScore(exact=False, valid_json=False, fields=0.0, by_field=by_field)
    return CaseScore(
        exact=same_json(ours, right),
        valid_json=True,
        fields=_equal_fields(ours, right),
        by_field={k: k in ours and same_json(ours[k], v) for k, v in right.items()},
    )


def _equal_fields(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    keys = one.keys() | other.keys()
    equal = sum(k in one and k in other and same_json(one[k], other[k]) for k in keys)
    return equal / len(keys) if keys else 1.0


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is out of range")
    return value
