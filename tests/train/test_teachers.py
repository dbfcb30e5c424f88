"""Settings of distillation and of training from nothing that contradict others."""

import pytest

from residency.config import Settings, Teacher, TrainSettings
from residency.errors import SettingsError
from residency.train.contradictions import check, check_all

TEACHER = Teacher(url="http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": "distill"}, "method distill has no teacher"),
        ({"method": "distill", "teacher": TEACHER, "teacher_model": "x"}, "two teachers"),
        ({"method": "distill", "teacher": TEACHER, "student_layers": 3}, "student_layers is for"),
        ({"method": "lora", "teacher": TEACHER}, "teacher belongs to method distill"),
        ({"method": "full", "teacher_model": "x"}, "teacher_model belongs to method distill"),
        ({"method": "scratch", "student_layers": 3}, "student_layers belongs to method distill"),
        ({"method": "distill", "teacher_model": "x", "rank": 4}, "rank is an adapter's"),
        ({"method": "scratch", "dora": True}, "dora is an adapter's"),
        ({"method": "lora", "parameters": 10**6}, "parameters belongs to method scratch"),
        ({"method": "lora", "corpus": "a.txt"}, "corpus belongs to method scratch"),
    ],
)
def test_what_contradicts_is_named(given: dict, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        check(TrainSettings(**given))


@pytest.mark.parametrize(
    "given",
    [
        {"method": "distill", "teacher": TEACHER, "rank": 4},
        {"method": "distill", "teacher_model": "x", "student_layers": 3},
        {"method": "scratch", "parameters": 10**6, "vocabulary": 400, "corpus": "a.txt"},
    ],
)
def test_what_belongs_together_is_not(given: dict) -> None:
    check(TrainSettings(**given))


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"model": {"base": "SmolLM2-135M-Instruct"}}, "begins from no model"),
        ({"gate": {"gain": 0.1}}, "gain compares with the base model"),
        ({"gate": {"forgetting": True}}, "forgetting compares with the base model"),
    ],
)
def test_what_needs_a_base_model_is_refused_from_scratch(sections: dict, words: str) -> None:
    whole = {"name": "a", "data": {"file": "a.jsonl"}, "train": {"method": "scratch"}}
    check_all(Settings.model_validate(whole))
    with pytest.raises(SettingsError, match=words):
        check_all(Settings.model_validate({**whole, **sections}))
