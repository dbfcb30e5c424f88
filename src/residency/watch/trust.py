"""Which recorded answers can be learnt from, and which a person should look at."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from residency.conversations import message_from, tools_from
from residency.traffic.feedback import Feedback
from residency.types import Exchange, Message, Tools, arguments_of, calls_text

Why = Literal["reviewed", "corrected", "rated up", "escalated", "given"]
RANK: tuple[Why, ...] = ("reviewed", "corrected", "rated up", "escalated", "given")
"""Why an answer is trusted, the best reason first. `escalated` were asked of a model of ours, and
answered by the API after it; `given` is an API's answer of which nobody said anything."""
Opinions = Mapping[str, Mapping[str, Feedback]]
"""What was said of exchanges: by their id, then by its source."""
_ENDED = (None, "", "stop")
_ROLES = {"developer": "system"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """An exchange as a question with the answer that was given. `trusted` is the answer to learn
    and `why` says where it is from; both are empty where there is none. `down` says that somebody
    called the given answer wrong, `comment` what they said, `confidence` (0..1) how sure the model
    was, where that was recorded; `calls` are those of tools that `given` writes as text."""

    exchange: str
    time: float
    prompt: tuple[Message, ...]
    tools: Tools = ()
    given: str
    answered: str
    trusted: str = ""
    why: Why | Literal[""] = ""
    down: bool = False
    comment: str = ""
    confidence: float | None = None
    guards: tuple[str, ...] = ()
    calls: Tools = ()


def opinions(feedback: Iterable[Feedback]) -> dict[str, dict[str, Feedback]]:
    """`feedback` by exchange and source."""
    found: dict[str, dict[str, Feedback]] = {}
    for one in feedback:
        found.setdefault(one.exchange, {})[one.source] = one
    return found


def judge(exchange: Exchange, said: Opinions, remote: Collection[str]) -> Judged | None:
    """What `exchange` teaches; None where it has no text that can be learnt. `remote` are the
    served models that are an API elsewhere."""
    prompt = prompt_of(exchange)
    given, whole = answer_of(exchange)
    opinion = said.get(exchange.id, {})
    review, client = opinion.get("review"), opinion.get("client")
    first = review or client
    if prompt is None or not (given or (first and first.correction)):
        return None
    trusted, why = _trusted(given if whole else "", review, client, _source(exchange, remote))
    tags = exchange.tags
    guards = tags.get("guards")
    return Judged(
        exchange=exchange.id,
        time=exchange.time,
        prompt=prompt,
        tools=tools_of(exchange) or (),
        given=given,
        answered=exchange.build or exchange.model,
        trusted=trusted,
        why=why if trusted else "",
        down=first is not None and first.rating == "down",
        comment=client.comment if client else "",
        confidence=confidence(exchange),
        guards=tuple(map(str, guards)) if isinstance(guards, list | tuple) else (),
        calls=_calls(exchange),
    )


def _trusted(
    given: str, review: Feedback | None, client: Feedback | None, source: Why | Literal[""]
) -> tuple[str, Why | Literal[""]]:
    """A person's word goes before what a model said, the owner's before a client's."""
    if review:
        return (review.correction or given, "reviewed") if not _refused(review) else ("", "")
    if client:
        if client.correction:
            return client.correction, "corrected"
        return ("", "") if client.rating == "down" else (given, "rated up")
    return (given, source) if source else ("", "")


def _refused(one: Feedback) -> bool:
    return one.rating == "down" and not one.correction


def _source(exchange: Exchange, remote: Collection[str]) -> Why | Literal[""]:
    """Our own models teach ours nothing; an API does. An imported log, which tells no route, was
    answered by one."""
    routes = exchange.tags.get("routes")
    if not isinstance(routes, list | tuple) or not routes:
        return "given"
    if routes[-1] not in remote:
        return ""
    return "escalated" if any(one not in remote for one in routes) else "given"


def prompt_of(exchange: Exchange) -> tuple[Message, ...] | None:
    """What was asked, as messages of text; None where it is anything else, or was not kept."""
    said = exchange.request.get("messages")
    if isinstance(prompt := exchange.request.get("prompt"), str) and not said:
        said = [{"role": "user", "content": prompt}]
    tools = tools_of(exchange)
    if not isinstance(said, list) or tools is None:
        return None
    found = []
    for turn in said:
        if (message := _message(turn, bool(tools))) is None:
            return None
        found.append(message)
    asked = any(one.role == "user" and one.content.strip() for one in found)
    return tuple(found) if asked else None


def tools_of(exchange: Exchange) -> Tools | None:
    """The tools that the model was free to call; None where it was told which, or they are in no
    form that we know: that is another question."""
    free = exchange.request.get("tool_choice") in (None, "auto")
    return tools_from(exchange.request.get("tools")) if free else None


def _message(turn: Any, tools: bool) -> Message | None:
    if not isinstance(turn, Mapping):
        return None
    calls, content = turn.get("tool_calls"), turn.get("content")
    text = "" if calls and not content else _plain(content)
    role = _ROLES.get(str(turn.get("role")), turn.get("role"))
    known = ("system", "user", "assistant", *(("tool",) if tools else ()))
    if text is None or role not in known or (calls and not (tools and tools_from(calls))):
        return None
    extra = {key: turn[key] for key in ("tool_calls", "tool_call_id") if turn.get(key)}
    return message_from({"role": role, "content": text, **extra})


def _plain(content: Any) -> str | None:
    if isinstance(content, list):
        parts = [one.get("text") if isinstance(one, Mapping) else None for one in content]
        texts = [one for one in parts if isinstance(one, str)]
        return "\n".join(texts) if len(texts) == len(parts) else None
    return content if isinstance(content, str) else None


def answer_of(exchange: Exchange) -> tuple[str, bool]:
    """The first choice's text, or its calls of tools as text, and whether it is whole: half an
    answer would be learnt as one."""
    choice, message, calls = _choice(exchange), _given(exchange), _calls(exchange)
    text = calls_text(calls) or _plain(message.get("content") or choice.get("text")) or ""
    whole = (
        exchange.status < 400
        and not exchange.error
        and choice.get("finish_reason") in (*_ENDED, *(("tool_calls",) if calls else ()))
        and not exchange.tags.get("finish")
        and (bool(calls) or not message.get("tool_calls"))
    )
    return text.strip(), whole


def _given(exchange: Exchange) -> Mapping[str, Any]:
    message = _choice(exchange).get("message")
    return message if isinstance(message, Mapping) else {}


def _calls(exchange: Exchange) -> Tools:
    """The answer's calls, if all are of tools that it was given, with objects as arguments."""
    known = {tool["function"]["name"] for tool in tools_of(exchange) or ()}
    calls = tools_from(_given(exchange).get("tool_calls")) or ()
    functions = [call["function"] for call in calls]
    whole = all(f["name"] in known and isinstance(arguments_of(f), Mapping) for f in functions)
    return calls if whole else ()


def _choice(exchange: Exchange) -> Mapping[str, Any]:
    choices = (exchange.response or {}).get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    return first if isinstance(first, Mapping) else {}


def confidence(exchange: Exchange) -> float | None:
    """The geometric mean of the answer's token probabilities (0..1): as the gateway noted it, or
    from the log-probabilities of an imported log; None where neither is there."""
    noted = exchange.tags.get("confidence")
    if isinstance(noted, int | float) and not isinstance(noted, bool):
        return float(noted)
    logprobs = _choice(exchange).get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    rows = content if isinstance(content, list) else []
    values = [one.get("logprob") for one in rows if isinstance(one, Mapping)]
    numbers = [float(one) for one in values if isinstance(one, int | float)]
    return math.exp(min(0.0, sum(numbers) / len(numbers))) if numbers else None
