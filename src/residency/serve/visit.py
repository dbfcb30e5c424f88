"""One request on its way through the gateway, and what is kept of it."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from time import time as now
from typing import Any

from residency.serve.answer import Answer, Choice
from residency.serve.asked import ANYONE, Asked, Caller
from residency.serve.notes import Notes
from residency.types import Exchange, to_dict

_COUNTS = ("prompt_tokens", "completion_tokens")
_PREFIX = "req_"


@dataclass(slots=True)
class Visit:
    """The mutable work item of the path: filled in step by step, and recorded at its end.

    `time` is seconds since 1970, `began` of the monotonic clock; `build` is what answered;
    `spoiled` are answers that were given up, which count as used; `status` is the HTTP status that
    the client saw, or 499 if it left, as nginx has it; `error` is a failure's code; `cost` is
    money.
    """

    api: str
    id: str = field(default_factory=lambda: f"{_PREFIX}{secrets.token_hex(12)}")
    time: float = field(default_factory=now)
    began: float = field(default_factory=monotonic)
    caller: Caller = ANYONE
    asked: Asked | None = None
    notes: Notes = field(default_factory=Notes)
    answer: Answer = field(default_factory=Answer)
    spoiled: list[Answer] = field(default_factory=list)
    build: str = ""
    status: int = 200
    error: str = ""
    cost: float = 0.0

    @property
    def ttft(self) -> float | None:
        """Seconds to the first token that an engine gave. A plain answer goes on its way later,
        when it is whole and its guard has seen it."""
        return None if self.notes.first is None else self.notes.first - self.began

    @property
    def token(self) -> str:
        """What the ids of the request and of its answer have in common."""
        return self.id.removeprefix(_PREFIX)

    def ask_again(self) -> None:
        """Begin a new answer in place of the one so far."""
        if self.answer.choices:
            self.spoiled.append(self.answer)
        self.answer = Answer()

    def used(self) -> dict[str, int]:
        """Tokens that were used, also by answers that were given up."""
        counts = [_counted(one) for one in (*self.spoiled, self.answer)]
        return {name: sum(one.get(name, 0) for one in counts) for name in _COUNTS}

    def exchange(self) -> Exchange | None:
        """What is kept of it; None for a request that was never understood."""
        if self.asked is None:
            return None
        used = self.used()
        return Exchange(
            id=self.id,
            time=self.time,
            api=self.api,
            model=self.asked.model,
            build=self.build,
            key=self.caller.name,
            subject=self.asked.subject,
            request=_request(self.asked),
            response=_response(self.answer),
            status=self.status,
            error=self.error,
            **used,
            latency=monotonic() - self.began,
            ttft=self.ttft,
            cost=self.cost,
            tags={**self.asked.tags, **self.notes.facts(), **_confidence(self.answer)},
        )


def exchange_id(answer: str) -> str:
    """The id of the exchange in which the answer with the id `answer` was given; the id of a
    request, or of an imported call, is its exchange's own."""
    known = re.fullmatch(r"(?:chatcmpl-|cmpl-|resp_|msg_)([0-9a-f]{24})", answer)
    return _PREFIX + known[1] if known else answer


def _confidence(answer: Answer) -> dict[str, float]:
    """The geometric mean of the first choice's token probabilities, where they were asked for: of
    the tokens themselves nothing is kept, as a mask does not see a value in pieces."""
    found = [one["logprob"] for one in answer.first.logprobs]
    return {"confidence": round(math.exp(sum(found) / len(found)), 6)} if found else {}


def _counted(answer: Answer) -> Mapping[str, int]:
    """The engine's counts; where it was left before it had any, a piece of text is one token."""
    written = sum(len(one.content) for one in answer.choices.values())
    return answer.usage or {"completion_tokens": written}


def _request(asked: Asked) -> dict[str, Any]:
    """The request in the form of OpenAI's chat, or of its completions."""
    said: dict[str, Any] = (
        {"prompt": asked.prompt}
        if asked.prompt is not None
        else {"messages": [one.to_dict() for one in asked.messages]}
    )
    return {"model": asked.model, **said, **to_dict(asked.options)}


def _response(answer: Answer) -> dict[str, Any] | None:
    if not answer.choices:
        return None
    return {
        "choices": [_choice(index, one) for index, one in sorted(answer.choices.items())],
        "usage": answer.usage,
    }


def _choice(index: int, choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text}
    if choice.tool_calls:
        message["tool_calls"] = choice.calls
    return {"index": index, "message": message, "finish_reason": choice.finish_reason}
