"""What a user says of the work and its constraints: `answers.toml`, or the answers to prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from residency.config import Section, Share
from residency.decide.facts import MONTH, Facts, Load, Runtime, Task
from residency.decide.prices import Amount, named
from residency.errors import InputError
from residency.strict import strict_file
from residency.types import Category, TrafficReport

_DAY = 86_400.0
# Mean tokens of an answer up to which work without a stated task counts as a label, and as an
# answer to a question: judgements of ours, which the answers can overrule.
_LABEL, _ANSWER = 32, 400


class CategoryAnswers(Section):
    """What one category asks in a month; tokens are means a call, `cost` is money a month, `p95`
    in seconds. What a traffic report knows may be left out; what is given overrules it."""

    task: Task | None = None
    calls: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    prompt_tokens: Amount | None = None
    completion_tokens: Amount | None = None
    cost: Amount | None = None
    p95: Amount | None = None
    alike: Share | None = None
    examples: Annotated[int, Field(ge=0)] | None = None


class Answers(Section):
    """See `residency.decide.facts.Facts` for what each is; `memory` is in GB."""

    api_model: str = ""
    may_leave: bool = True
    offline: bool = False
    latency: Amount | None = None
    quality: Share | None = None
    reached: Share | None = None
    budget: Amount | None = None
    peak: Amount | None = None
    team_hours: Amount | None = None
    languages: Annotated[
        tuple[str, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)
    ] = ("en",)
    machine: str = ""
    gpu: bool = False
    runtime: Runtime = "any"
    memory: Amount | None = None
    notation: bool = False
    corpus: Amount = 0.0
    category: dict[str, CategoryAnswers] = Field(default_factory=dict)


def load(path: Path) -> Answers:
    """The answers in the file `path`.

    Raises `SettingsError` with file, line and nearest match, and `StorageError`.
    """
    return strict_file(Answers, path)


def facts(answers: Answers, report: TrafficReport | None = None) -> Facts:
    """What the decision rests on: the answers, and the log's categories where there is a report.

    Raises `InputError` where neither says what is asked, or of which API.
    """
    stated = answers.category
    if report:
        known = {category.name: _load(category, report) for category in report.categories}
        for name in stated:
            named(known, name, "category of the traffic report")
        merged = {n: load | _given(stated.get(n)) for n, load in known.items() if load["calls"]}
    else:
        merged = {name: _complete(name, values) for name, values in stated.items()}
    if not merged:
        raise InputError(
            "nothing says what the API is asked",
            hint="run residency traffic report, or add [category.NAME] with calls, "
            "prompt_tokens and completion_tokens to the answers",
        )
    loads = tuple(Load(name=name, **_with_task(values)) for name, values in merged.items())
    asked = report.models if report else {}
    model = answers.api_model or max(asked, key=asked.__getitem__, default="")
    values = answers.model_dump(exclude={"category", "api_model", "memory"})
    memory = None if answers.memory is None else answers.memory * 1e9
    if not model and any(load.cost is None for load in loads):
        raise InputError(
            "the API's model is not given", hint='add api_model = "..." to the answers'
        )
    return Facts(loads=loads, api_model=model, memory=memory, **values)


def months(report: TrafficReport) -> float:
    """How many months the report's calls span; hours count as a day."""
    return max(report.last - report.first, _DAY) / MONTH


def _load(category: Category, report: TrafficReport) -> dict[str, Any]:
    """A category of the log, brought to a month."""
    span = months(report)
    calls = max(category.calls, 1)
    return {
        "calls": category.calls / span,
        "prompt_tokens": category.prompt_tokens / calls,
        "completion_tokens": category.completion_tokens / calls,
        "cost": category.cost / span or None,
        "p95": category.p95,
        "alike": category.alike,
        "examples": category.calls - category.errors,
    }


def _given(values: CategoryAnswers | None) -> dict[str, Any]:
    return values.model_dump(exclude_none=True) if values else {}


def _complete(name: str, values: CategoryAnswers) -> dict[str, Any]:
    given = _given(values)
    for key in ("calls", "prompt_tokens", "completion_tokens"):
        if key not in given:
            raise InputError(
                f"category {name!r}: {key} is missing",
                hint=f"add {key} = ... to [category.{name!r}], or run residency traffic report",
            )
    return given


def _with_task(values: dict[str, Any]) -> dict[str, Any]:
    tokens = values["completion_tokens"]
    guess = "reasoning"
    if tokens <= _ANSWER:
        guess = "classification" if tokens <= _LABEL else "questions"
    return {"task": guess, **values}
