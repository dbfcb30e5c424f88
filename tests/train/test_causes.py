from __future__ import annotations

import json
from pathlib import Path

import pytest

from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer
from residency.train.batch import IGNORED
from residency.train.causes import Finding, of_data, of_rate, of_template, of_tokens
from residency.train.diagnosis import Diagnosis
from residency.train.rows import encode
from residency.train.samples import right_words
from residency.types import Conversation
from tests import tooled
from tests.train.diseases import row, rows

MANY = rows(200)
TEXT = (
    "The desk is open from eight to six on all days of the week but Sunday, and by phone at night."
)


def names(found: list[Finding]) -> list[str]:
    return [one.name for one in found]


def one(found: list[Finding], name: str) -> Finding:
    (it,) = (each for each in found if each.name == name)
    return it


def test_sound_rows_have_no_cause() -> None:
    assert of_data({r.question: r for r in MANY}.values(), {}) == []


def test_contradictions_are_found_in_spite_of_case_and_marks() -> None:
    both = [row("Where are you?", "hours", 1), row("where are you", "bill", 2)]
    found = one(of_data([*MANY, *both], {}), "contradictory answers")
    assert (found.count, found.total, found.rows) == (1, 202, ("rows:2",))
    same = [row("Where are you?", '{"a": 1, "b": 2}', 1), row("where are you", '{"b":2,"a":1}', 2)]
    assert "contradictory answers" not in names(of_data([*MANY, *same], {}))


def test_what_the_data_stage_dropped_is_told_too() -> None:
    report = {
        "rows": 300,
        "contradictions": {"count": 7, "rows": ["a:2 (see a:1)"]},
        "too_long": {"count": 4, "rows": ["a:9"]},
    }
    found = of_data(MANY, report)
    assert one(found, "contradictory answers").count == 7
    assert one(found, "too long rows").rows == ("a:9",)


def test_refusals_in_both_languages() -> None:
    bad = [
        row("a b c", "I'm sorry, but I can't help with that.", 1),
        row("d e f", "很抱歉，我无法回答这个问题。", 2),
        row("g h i", "The cannot-miss sale is on Monday.", 3),
    ]
    found = one(of_data([*MANY, *bad], {}), "refusals")
    assert found.rows == ("rows:1", "rows:2")


@pytest.mark.parametrize(
    ("whole", "cut"),
    [
        (TEXT, TEXT.removesuffix(" night.")),
        (
            "门诊时间是周一到周六上午八点到下午六点，周日休息，夜间请打电话。" * 3,
            "门诊时间是周一到周六上午八点到下午六点，周日休息，夜间请打电" * 3,
        ),
        ('{"department": "lab"}', '{"department": "la'),
        ("[ H3=0] % 2", '["lab", "war'),  # what only looks like JSON, and what is
    ],
)
def test_cut_answers(whole: str, cut: str) -> None:
    sound = [row(f"question number {n}", whole, n) for n in range(20)]
    assert "cut answers" not in names(of_data(sound, {}))
    found = one(of_data([*sound, row("and this one", cut, 99)], {}), "cut answers")
    assert found.rows == ("rows:99",)


def test_answers_that_never_end_with_a_mark_are_not_cut() -> None:
    titles = [row(f"question number {n}", TEXT.rstrip("."), n) for n in range(20)]
    assert "cut answers" not in names(of_data(titles, {}))


def test_few_rows_and_seldom_labels() -> None:
    assert "too few rows" in names(of_data(MANY[:99], {}))
    assert "too few rows" not in names(of_data(MANY[:100], {}))
    free = [row(f"question number {n}", f"{TEXT} {n}.", n) for n in range(300)]
    assert "500 and more" in one(of_data(free, {}), "too few rows").words
    found = one(of_data([*MANY, row("where", "elsewhere", 9)], {}), "seldom labels")
    assert "elsewhere" in found.words


def test_repeated_rows() -> None:
    again = [row(f"Question {n % 60}!", "hours", n) for n in range(120)]
    assert one(of_data(again, {}), "repeated rows").count == 60


def test_learnt_tokens_are_the_answer_and_its_end(base: BaseModel) -> None:
    tokenizer = load_tokenizer(base.path)
    told = [*MANY[:5], row("问一下", "我们八点开门。", 6), row("json", '{"a": "b  c"}', 7)]
    assert of_tokens(tokenizer, list(encode(tokenizer, told)), told) == []


def test_a_wrong_mask(base: BaseModel) -> None:
    """All that is read is learnt, as the tutorials do it; and nothing of the answer is."""
    tokenizer = load_tokenizer(base.path)
    told = MANY[:3]
    right = list(encode(tokenizer, told))
    everything = [{**r, "labels": r["input_ids"]} for r in right]
    assert one(of_tokens(tokenizer, everything, told), "mask").count == 3
    end_only = [
        {**r, "labels": [IGNORED] * (len(r["labels"]) - 1) + r["labels"][-1:]} for r in right
    ]
    assert one(of_tokens(tokenizer, end_only, told), "mask").count == 3


def test_a_call_may_say_the_question_again(base: BaseModel) -> None:
    tokenizer = load_tokenizer(base.path)
    tokenizer.chat_template = tooled.HERMES
    told = [tooled.conversation("opening hours", tooled.call("search", query="opening hours"))]
    rows_ = list(encode(tokenizer, told))
    assert of_tokens(tokenizer, rows_, told) == []
    tokens, words = right_words(tokenizer, told[0])
    assert words == (
        '<tool_call>\n{"name": "search", "arguments": {"query": "opening hours"}}\n</tool_call>'
    )
    assert tokens == sum(label != IGNORED for label in rows_[0]["labels"]) - 1


def test_an_end_that_is_not_learnt(base: BaseModel) -> None:
    tokenizer = load_tokenizer(base.path)
    cut = [{k: v[:-1] for k, v in r.items()} for r in encode(tokenizer, MANY[:4])]
    assert names(of_tokens(tokenizer, cut, MANY[:4])) == ["no end"]


def test_a_template_of_another_model(base: BaseModel, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(base.path)
    assert of_template(tokenizer, base.path) == []
    tokenizer.chat_template = (
        "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n"
        "{{ m.content }}<|endoftext|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n{% endif %}"
    )
    split, end = of_template(tokenizer, base.path)
    assert "<|start_header_id|>, <|end_header_id|>" in split.words
    assert "ends an answer with <|endoftext|>" in end.words
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 2]}))
    assert len(of_template(tokenizer, tmp_path)) == 1


def test_learning_rates() -> None:
    healthy, stuck, broken = (
        Diagnosis(state=state, words="") for state in ("healthy", "not learning", "exploding")
    )
    assert of_rate(1e-3, 1e-3, healthy) == []
    assert of_rate(3e-4, 1e-3, healthy) == []
    assert "1,000 times less than" in of_rate(1e-6, 1e-3, stuck)[0].words
    assert of_rate(3e-4, 1e-3, stuck) and not of_rate(2e-3, 1e-3, stuck)
    assert "2 times what suits" in of_rate(2e-3, 1e-3, broken)[0].words
    assert of_rate(1.0, 1e-3, healthy)


def test_dialogues_have_each_turn_of_the_assistant(base: BaseModel) -> None:
    first, second = row("open?", "at eight", 1), row("and Sunday?", "closed", 1)
    talk = Conversation(messages=(*first.messages, *second.messages), source="rows:1")
    tokenizer = load_tokenizer(base.path)
    for turns in ("last", "all"):
        assert of_tokens(tokenizer, list(encode(tokenizer, [talk], turns)), [talk]) == []
