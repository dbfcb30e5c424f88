"""Why a run goes as it does, as far as data, template and settings can tell.

Each check counts what it finds and says what to do. What it finds need not be the cause of what the
doctor saw; but it is there.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from residency.models.chat import render, stop_tokens
from residency.near_duplicates import canonical, normalised
from residency.refusals import refuses
from residency.train.batch import IGNORED, Row
from residency.train.diagnosis import Diagnosis
from residency.types import Conversation, Message, to_json
from residency.words import words

_MOST = 5  # rows that are named
FEW_FIXED, FEW_FREE = 100, 500
"""Rows: labels and answers of a fixed form want 100 to 500, free text of a domain 500 to 2,000."""
SELDOM = 3
"""Rows of one label, from which it can be learnt at all."""
_TIMES_OFF = 5.0  # a rate that suits a model is known to a factor of two or three
_LONG = 20  # words from which an answer is no label, and is expected to end with a mark
_REPEATED = 0.1
_LABELS = 1000  # that so many short answers are labels is not looked for
_END_MARKS = frozenset(".!?:;…。！？：；)]}>\"'`”’」』）】》*_~|")
# A bracket opens other notations too; JSON has only these behind it.
_JSON_BEGINS = re.compile(r"\{|\[\s*(?:[\]\[{\"'\d-]|true|false|null|$)")
_MARKER = re.compile(r"<\|[^<>|\s]+\|>|<(?:start|end)_of_[a-z]+>")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """`count` of `total` rows do what `words` say; `rows` names the first of them."""

    name: str
    count: int
    total: int
    words: str
    remedy: str
    rows: tuple[str, ...] = ()


@dataclass(slots=True)
class _Rows:
    """How many rows there are of a kind, and the first of them."""

    count: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, row: Conversation) -> None:
        self.count += 1
        if len(self.named) < _MOST:
            self.named.append(row.source)


@dataclass(kw_only=True, slots=True)
class _Data:
    """What one pass over the training rows gathers. Of each text it keeps a hash alone, but for the
    first kinds of short answers, which may be labels."""

    total: int = 0
    answers: dict[int, int] = field(default_factory=dict)
    contradicting: _Rows = field(default_factory=_Rows)
    repeated: _Rows = field(default_factory=_Rows)
    refusing: _Rows = field(default_factory=_Rows)
    broken_json: _Rows = field(default_factory=_Rows)
    unended: _Rows = field(default_factory=_Rows)
    objects: int = 0
    long: int = 0
    short: int = 0
    labels: Counter[str] = field(default_factory=Counter)

    def add(self, row: Conversation) -> None:
        self.total += 1
        said = tuple((m.role, tuple(words(m.said))) for m in row.prompt)
        key = hash((said, to_json(row.tools)))
        answer = hash(canonical(row.answer))
        if key in self.answers:
            (self.repeated if self.answers[key] == answer else self.contradicting).add(row)
        self.answers.setdefault(key, answer)
        if refuses(row.answer):
            self.refusing.add(row)
        self._look_at_end(row)

    def _look_at_end(self, row: Conversation) -> None:
        text = row.answer.strip()
        if _JSON_BEGINS.match(text):
            self.objects += 1
            if not _is_json(text):
                self.broken_json.add(row)
        elif len(words(text)) < _LONG:
            self.short += 1
            label = normalised(text)
            if label in self.labels or len(self.labels) < _LABELS:
                self.labels[label] += 1
        else:
            self.long += 1
            if text[-1] not in _END_MARKS:
                self.unended.add(row)


def of_data(conversations: Iterable[Conversation], report: Mapping[str, Any]) -> list[Finding]:
    """What is wrong with the training rows; `report` is the data stage's, of what it dropped."""
    data = _Data()
    for row in conversations:
        data.add(row)
    return [
        *_few(data),
        *_contradictions(data, report),
        *_cut(data, report),
        *_of_rows(
            "refusals",
            data.refusing,
            data.total,
            "have an answer that declines to answer",
            "take them out, unless the model is to refuse such questions: it learns to",
        ),
        *_repeats(data),
    ]


def of_tokens(
    tokenizer: Any, rows: Sequence[Row], conversations: Sequence[Conversation]
) -> list[Finding]:
    """What is wrong with what is learnt of each row: `labels` beside `input_ids`."""
    ends = {tokenizer.convert_tokens_to_ids(token) for token in stop_tokens(tokenizer)}
    foreign, endless = _Rows(), _Rows()
    for row, one in zip(rows, conversations, strict=True):
        learnt = [label for label in row["labels"] if label != IGNORED]
        if _foreign(tokenizer.decode(learnt, skip_special_tokens=True), one):
            foreign.add(one)
        if row["labels"][-1] not in ends:
            endless.add(one)
    return [
        *_of_rows(
            "mask",
            foreign,
            len(conversations),
            "learn something else than the assistant's words",
            "see what is learnt with: residency data preview",
        ),
        *_of_rows(
            "no end",
            endless,
            len(conversations),
            "do not learn the token that ends an answer, so that the model will not stop",
            "take a chat template that ends an answer with a special token",
        ),
    ]


def of_template(tokenizer: Any, folder: Path) -> list[Finding]:
    """What of the chat template the base model in `folder` was not made with."""
    probe = (Message(role="user", content="1"), Message(role="assistant", content="2"))
    text = render(tokenizer, probe, answer=True).text
    markers = list(dict.fromkeys(_MARKER.findall(text)))
    split = [
        marker
        for marker in markers
        if len(tokenizer(marker, add_special_tokens=False)["input_ids"]) > 1
    ]
    found = []
    if split:
        found.append(
            Finding(
                name="template",
                count=len(split),
                total=len(markers),
                words=f"markers of the chat template ({', '.join(split)}) are no tokens of this "
                "model: the template is another model's",
                remedy="use the chat template that came with the base model",
            )
        )
    end, stops = stop_tokens(tokenizer)[0], _made_to_stop_at(folder, tokenizer)
    if tokenizer.convert_tokens_to_ids(end) not in stops:
        names = ", ".join(map(str, tokenizer.convert_ids_to_tokens(sorted(stops))))
        found.append(
            Finding(
                name="template",
                count=1,
                total=1,
                words=f"the chat template ends an answer with {end}, and the base model was made "
                f"to stop at {names}",
                remedy="use the chat template that came with the base model, or train longer: the "
                "end has to be learnt anew",
            )
        )
    return found


def of_rate(rate: float, suited: float, diagnosis: Diagnosis) -> list[Finding]:
    """Whether the learning rate is far from what suits the model, or what was seen speaks of it."""
    times = rate / suited
    low = times * _TIMES_OFF <= 1 or (diagnosis.state == "not learning" and times < 1)
    high = times >= _TIMES_OFF or (diagnosis.state == "exploding" and times > 1)
    if not low and not high:
        return []
    how = f"{_times(times)} times" if high else f"{_times(1 / times)} times less than"
    return [
        Finding(
            name="learning rate",
            count=1,
            total=1,
            words=f"the learning rate, {rate:g}, is {how} what suits a model of this size, "
            f"{suited:g}",
            remedy=f"learning_rate = {suited:g} in [train], or leave it out",
        )
    ]


def _of_rows(name: str, rows: _Rows, total: int, what: str, remedy: str) -> list[Finding]:
    if not rows.count:
        return []
    return [
        Finding(
            name=name,
            count=rows.count,
            total=total,
            words=f"{rows.count} of {total} rows {what}",
            remedy=remedy,
            rows=tuple(rows.named),
        )
    ]


def _few(data: _Data) -> list[Finding]:
    fixed = data.objects + data.short > data.total / 2
    wanted, form = (FEW_FIXED, "a fixed form") if fixed else (FEW_FREE, "free text")
    found = []
    if data.total < wanted:
        found.append(
            Finding(
                name="too few rows",
                count=data.total,
                total=data.total,
                words=f"{data.total} rows are few: answers of {form} want {wanted} and more",
                remedy="add rows where reports/report.html shows mistakes",
            )
        )
    kinds = len(data.labels)
    labels = data.short == data.total and kinds < _LABELS and 3 * kinds <= data.total
    seldom = [name for name, count in data.labels.items() if count < SELDOM] if labels else []
    if seldom:
        found.append(
            Finding(
                name="seldom labels",
                count=len(seldom),
                total=kinds,
                words=f"{len(seldom)} of {kinds} labels have fewer than {SELDOM} rows: "
                f"{', '.join(map(repr, seldom[:_MOST]))}",
                remedy="add rows with these answers, or join them with others",
            )
        )
    return found


def _contradictions(data: _Data, report: Mapping[str, Any]) -> list[Finding]:
    remedy = "settle on one answer for each question"
    dropped = report.get("contradictions", {"count": 0, "rows": []})
    found = _of_rows(
        "contradictory answers",
        data.contradicting,
        data.total,
        "ask what another row asks, word for word, and answer it differently",
        f"{remedy}: no loss below the average of both can be reached",
    )
    if dropped["count"]:
        found.append(
            Finding(
                name="contradictory answers",
                count=dropped["count"],
                total=report["rows"],
                words=f"{dropped['count']} rows of the file answer a question again and "
                "differently; they were dropped, and the first answer was kept",
                remedy=remedy,
                rows=tuple(dropped["rows"][:_MOST]),
            )
        )
    return found


def _repeats(data: _Data) -> list[Finding]:
    if data.repeated.count < _REPEATED * data.total:
        return []
    return _of_rows(
        "repeated rows",
        data.repeated,
        data.total,
        "say what another row says, word for word",
        "take them out: what comes often is memorised, and the rest is learnt less",
    )


def _cut(data: _Data, report: Mapping[str, Any]) -> list[Finding]:
    """Answers that someone's limit of tokens has ended, and rows that our own has kept out."""
    remedy = "ask for them again with more max_tokens, or take them out"
    # Where most long answers end without a mark, that is how they are written.
    unended = data.unended if 2 * data.unended.count < data.long else _Rows()
    too_long = report.get("too_long", {"count": 0, "rows": []})
    found = [
        *_of_rows(
            "cut answers",
            data.broken_json,
            data.total,
            "have an answer that begins as JSON and is none: cut off, or badly written",
            remedy,
        ),
        *_of_rows(
            "cut answers", unended, data.total, "have an answer that ends amid a sentence", remedy
        ),
    ]
    if too_long["count"]:
        found.append(
            Finding(
                name="too long rows",
                count=too_long["count"],
                total=report["rows"],
                words=f"{too_long['count']} rows of the file are longer than max_tokens, and were "
                "dropped",
                remedy="raise max_tokens in [data], if memory allows it, or shorten them",
                rows=tuple(too_long["rows"][:_MOST]),
            )
        )
    return found


def _foreign(learnt: str, one: Conversation) -> bool:
    """Whether `learnt` lacks the answer, or has what somebody else said."""
    if any("tool_calls" in m.extra for m in one.messages):
        return False  # a call may well say the question again
    text = normalised(learnt)
    said = [normalised(m.content) for m in one.messages if m.role == "assistant" and m.content]
    if one.messages[-1].content and said[-1] not in text:
        return True
    for answer in said:
        text = text.replace(answer, "", 1)
    others = (normalised(m.content) for m in one.prompt if m.role != "assistant")
    return any(other and other in text for other in others)


def _made_to_stop_at(folder: Path, tokenizer: Any) -> set[int]:
    """Ids of the tokens that the model's own files call its end."""
    stops = {tokenizer.eos_token_id}
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        if path.exists():
            end = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            stops |= set(end) if isinstance(end, list) else {end}
    return stops - {None}


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"
